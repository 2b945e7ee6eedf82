"""Cross-frame attention against the description of the released network, written out slowly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nvds_core.stabilization import StreamingStabilizer, attention
from nvds_core.stabilization.attention import FocalBlock
from nvds_core.stabilization.windows import key_table, window_grid
from tests.fill import fill
from tests.nvds_core.stabilization.reference import filled, random_frames

SHIFTS = ((3, 3), (3, -3), (-3, 3), (-3, -3))
# (tokens per side, tokens of the pooled map per window and side): pooled target, frames i-3, i-2, i-1
POOLED = ((5, 1), (7, 7), (5, 4), (3, 2))
HEADS, DIM = 2, 16


def ring(numbers: np.ndarray, a: int, b: int) -> list[int]:
    """Ring tokens of window (a, b): four shifted 7x7 windows of the cyclic map without the original window."""
    wrapped = np.pad(numbers, 3, mode="wrap")
    tokens = []
    for down, right in SHIFTS:
        moved = wrapped[3 + 7 * a + down :, 3 + 7 * b + right :][:7, :7]
        outside = [not (0 <= r + down < 7 and 0 <= c + right < 7) for r in range(7) for c in range(7)]
        assert sum(outside) == 33
        tokens += [int(t) for t, kept in zip(moved.ravel(), outside, strict=True) if kept]
    return tokens


def neighbours(numbers: np.ndarray, a: int, b: int, kernel: int, stride: int) -> list[int]:
    """Tokens around the window's top-left token in a pooled map; -1 outside the map."""
    fringed = np.pad(numbers, kernel, constant_values=-1)
    top, left = stride * a - kernel // 2 + kernel, stride * b - kernel // 2 + kernel
    return [int(t) for t in fringed[top : top + kernel, left : left + kernel].ravel()]


def target_numbers(nh: int, nw: int) -> np.ndarray:
    """Token numbers of the target map: window by window, each row by row."""
    return np.block([[np.arange(49).reshape(7, 7) + 49 * (a * nw + b) for b in range(nw)] for a in range(nh)])


def slow_keys(nh: int, nw: int) -> tuple[list[list[int]], int]:
    """Token numbers seen by each window (-1: outside), and how many tokens there are."""
    target = target_numbers(nh, nw)
    maps, total = [], target.size
    for _, stride in POOLED:
        maps.append(total + np.arange(stride * nh * stride * nw).reshape(stride * nh, stride * nw))
        total += maps[-1].size
    rows = []
    for a in range(nh):
        for b in range(nw):
            row = [int(t) for t in target[7 * a : 7 * a + 7, 7 * b : 7 * b + 7].ravel()] + ring(target, a, b)
            for numbers, (kernel, stride) in zip(maps, POOLED, strict=True):
                row += neighbours(numbers, a, b, kernel, stride)
            rows.append(row)
    return rows, total


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (2, 3), (3, 4)])
def test_the_key_table_equals_a_slow_construction(grid: tuple[int, int]) -> None:
    expected, total = slow_keys(*grid)
    index, outside = key_table(*grid)
    assert index.shape == outside.shape == (grid[0] * grid[1], 289)
    np.testing.assert_array_equal(outside.numpy(), np.array(expected) < 0)
    np.testing.assert_array_equal(torch.where(outside, -1, index).numpy(), expected)
    assert bool((index[outside] == total).all())  # the one zero token behind all maps


def test_the_ring_of_an_inner_window_holds_twelve_tokens_twice() -> None:
    index, _ = key_table(3, 3)
    inner = index[4, 49 : 49 + 132].tolist()
    assert len(inner) - len(set(inner)) == 12
    assert max(inner.count(token) for token in inner) == 2
    assert not set(inner) & set(index[4, :49].tolist())


def test_the_ring_of_a_corner_window_wraps_to_the_far_side_and_is_not_masked() -> None:
    index, outside = key_table(2, 2)
    assert 4 * 49 - 1 in index[0, 49 : 49 + 132].tolist()  # the last token of the last window
    assert not bool(outside[:, : 49 + 132].any())


def make_block() -> FocalBlock:
    block = FocalBlock(DIM, HEADS)
    assert fill(block) is block
    return block.double().eval()


def updated(block: FocalBlock, target: Tensor, keys: list[Tensor]) -> Tensor:
    """The block's output for maps [n,h,w,c], as a map."""
    grid = window_grid(target.shape[1], target.shape[2], target.device)
    return grid.join(block(grid.split(target), keys, grid))


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def padded(x: Tensor, block: FocalBlock) -> Tensor:
    """Normalised map [h,w,c] in a map of zeros whose sides are the next multiples of 7."""
    h, w, c = x.shape
    out = x.new_zeros(-(-h // 7) * 7, -(-w // 7) * 7, c)
    out[:h, :w] = norm(x, block.norm1)
    return out


def pooled(x: Tensor, side: int, layer: torch.nn.Linear) -> Tensor:
    """One token per side x side square of [h,w,c], by one weighted sum for all channels."""
    rows = [
        [
            torch.einsum("k,kc->c", layer.weight[0], x[r : r + side, c : c + side].flatten(0, 1)) + layer.bias
            for c in range(0, x.shape[1], side)
        ]
        for r in range(0, x.shape[0], side)
    ]
    return torch.stack([torch.stack(row) for row in rows])


def resized(x: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x.permute(2, 0, 1)[None], (height, width), mode="bilinear", align_corners=False)[0].permute(
        1, 2, 0
    )


def bias_of(block: FocalBlock, query: int, head: int) -> list[float]:
    """Position bias of one query for all 289 keys, from the tables' definition."""
    attn = block.attn
    row, column = divmod(query, 7)

    def table_index(kernel: int) -> list[int]:
        width = 7 + kernel - 1
        return [
            (row - rk + kernel - 1) * width + (column - ck + kernel - 1) for rk in range(kernel) for ck in range(kernel)
        ]

    values = [float(attn.relative_position_bias_table[i, head]) for i in table_index(7)]
    values += attn.relative_position_bias_table_to_neighbors[0, head, query].tolist()
    for name, kernel in (("0", 5), ("clips_0", 7), ("clips_1", 5), ("clips_2", 3)):
        table = getattr(attn, f"relative_position_bias_table_to_windows_{name}")
        values += [float(table[head, i]) for i in table_index(kernel)]
    return values


def slow_window(block: FocalBlock, target: Tensor, references: list[Tensor], a: int, b: int) -> Tensor:
    """Block output of window (a, b) for target and references [h,w,c]: [7,7,c], padding included."""
    x = padded(target, block)
    nh, nw = x.shape[0] // 7, x.shape[1] // 7
    oldest, middle, newest = (padded(reference, block) for reference in references)
    clips = block.pool_layers_clips
    numbered = torch.empty_like(x.flatten(0, 1))
    numbered[torch.from_numpy(target_numbers(nh, nw)).flatten()] = x.flatten(0, 1)
    maps = [
        numbered[None],
        pooled(x, 7, block.pool_layers[0]),
        pooled(oldest, 1, clips[0]),
        pooled(resized(middle, 4 * nh, 4 * nw), 1, clips[1]),
        pooled(resized(newest, 6 * nh, 6 * nw), 3, clips[2]),
    ]
    qkv = torch.cat([m.flatten(0, 1) for m in maps]) @ block.attn.qkv.weight.T + block.attn.qkv.bias
    row = slow_keys(nh, nw)[0][a * nw + b]
    depth = DIM // HEADS
    joined = torch.zeros(49, DIM, dtype=torch.float64)
    for query in range(49):
        for head in range(HEADS):
            part = slice(head * depth, (head + 1) * depth)
            q = qkv[row[query], :DIM][part] * depth**-0.5
            bias = bias_of(block, query, head)
            scores, values = [], []
            for number, token in enumerate(row):
                key = qkv[token, DIM : 2 * DIM][part] if token >= 0 else torch.zeros(depth, dtype=torch.float64)
                values.append(qkv[token, 2 * DIM :][part] if token >= 0 else torch.zeros_like(key))
                scores.append(float(q @ key) + bias[number] - (100.0 if token < 0 else 0.0))
            weights = torch.softmax(torch.tensor(scores, dtype=torch.float64), dim=0)
            joined[query, part] = weights @ torch.stack(values)
    attended = joined @ block.attn.proj.weight.T + block.attn.proj.bias
    own = F.pad(target, (0, 0, 0, x.shape[1] - target.shape[1], 0, x.shape[0] - target.shape[0]))
    y = own[7 * a : 7 * a + 7, 7 * b : 7 * b + 7] + attended.view(7, 7, DIM)
    hidden = norm(y, block.norm2) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
    hidden = 0.5 * hidden * (1 + torch.erf(hidden / 2**0.5))
    return y + hidden @ block.mlp.fc2.weight.T + block.mlp.fc2.bias


@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("window", [(0, 0), (1, 2)])
def test_a_block_equals_an_explicit_loop_over_queries_and_keys(window: tuple[int, int], learning: bool) -> None:
    a, b = window
    block = make_block()
    g = torch.Generator().manual_seed(3)
    target, *references = torch.randn((4, 10, 16, DIM), generator=g, dtype=torch.float64)
    with torch.set_grad_enabled(learning):  # training takes another route through the same attention
        keys = [block.reference_keys(r[None], role) for role, r in enumerate(references)]
        found = updated(block, target[None], keys)[0].detach()
    with torch.no_grad():
        expected = slow_window(block, target, references, a, b)
    found = found[7 * a : 7 * a + 7, 7 * b : 7 * b + 7]
    assert found.shape == ((7, 7, DIM) if window == (0, 0) else (3, 2, DIM))
    assert float((found - expected[: found.shape[0], : found.shape[1]]).abs().max()) < 1e-10


def test_own_tokens_of_one_target_serve_windows_with_other_references() -> None:
    block = make_block()
    g = torch.Generator().manual_seed(6)
    target, *references = torch.randn((4, 2, 9, 15, DIM), generator=g, dtype=torch.float64)
    grid = window_grid(9, 15, target.device)
    one = grid.split(target[:1])
    with torch.no_grad():
        keys = [block.reference_keys(r, role) for role, r in enumerate(references)]
        shared = block(one, keys, grid, block.own_tokens(one, grid))
        assert float((shared - block(one.expand(2, -1, -1, -1), keys, grid)).abs().max()) < 1e-12
    assert float((shared[0] - shared[1]).abs().max()) > 1e-3


@pytest.mark.parametrize("size", [(7, 14), (8, 13), (3, 20)])
def test_joined_windows_are_the_map_that_was_split(size: tuple[int, int]) -> None:
    maps = torch.arange(2.0 * size[0] * size[1] * 3).view(2, *size, 3) + 1
    grid = window_grid(*size, maps.device)
    windows = grid.split(maps)
    assert torch.equal(grid.join(windows), maps)
    empty = torch.zeros(windows.shape[1:3]) if grid.padding is None else grid.padding[..., 0].float()
    assert torch.equal((windows[0] == 0).all(dim=2).float(), empty)
    assert (grid.padding is None) == (size == (7, 14))


@pytest.mark.parametrize(("windows", "tokens"), [(1, 5), (5, 100)])
def test_the_size_of_the_groups_does_not_change_results(
    windows: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = make_block()
    g = torch.Generator().manual_seed(7)
    target, *references = torch.randn((4, 2, 15, 15, DIM), generator=g, dtype=torch.float64)
    with torch.no_grad():
        keys = [block.reference_keys(r, role) for role, r in enumerate(references)]
        expected = updated(block, target, keys)
        monkeypatch.setattr(attention, "CPU_WINDOWS", windows * DIM)
        monkeypatch.setattr(attention, "CPU_MLP_TOKENS", tokens * DIM)
        assert float((updated(block, target, keys) - expected).abs().max()) < 1e-12


def test_windows_of_a_batch_do_not_see_each_other() -> None:
    block = make_block()
    g = torch.Generator().manual_seed(4)
    target, *references = torch.randn((4, 2, 9, 15, DIM), generator=g, dtype=torch.float64)
    with torch.no_grad():
        both = updated(block, target, [block.reference_keys(r, role) for role, r in enumerate(references)])
        for i in range(2):
            keys = [block.reference_keys(r[i : i + 1], role) for role, r in enumerate(references)]
            assert float((updated(block, target[i : i + 1], keys)[0] - both[i]).abs().max()) < 1e-12


def test_training_works_after_inference_at_the_same_size() -> None:
    model = filled("nvds-tiny")
    frames = random_frames(4, 36, 44)  # a size that no other test uses: key tables are kept per size
    window_grid.cache_clear()
    StreamingStabilizer(model).push(frames[0])
    StreamingStabilizer(model, direction="forward").push(frames[0])
    gradient = torch.autograd.grad(model(frames[None]).sum(), model.edge_conv[0].weight)[0]
    assert bool(torch.isfinite(gradient).all())
