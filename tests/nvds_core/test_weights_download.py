from __future__ import annotations

import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from nvds_core import WeightsError
from nvds_core.weights_download import _SafeRedirects, fetch
from tests.nvds_core.weights_helpers import Site, serving

CONTENT = bytes(range(256)) * 12_000  # three megabytes: several blocks
NO_WAIT = (0.0, 0.0)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving(Site(CONTENT)) as running:
        yield running


@pytest.fixture
def tag(tmp_path: Path) -> Path:
    return tmp_path / "version.tag"


def test_a_file_comes_whole_and_progress_ends_at_its_length(site: Site, tag: Path) -> None:
    partial, steps = io.BytesIO(), []
    fetch(site.url, partial, tag, progress=lambda held, total: steps.append((held, total)))
    assert partial.getvalue() == CONTENT
    assert steps[-1] == (len(CONTENT), len(CONTENT))
    assert [held for held, _ in steps] == sorted({held for held, _ in steps})


def test_a_line_that_drops_is_taken_up_where_it_broke(site: Site, tag: Path) -> None:
    site.cuts = [1_000_000, 500_000, 1]
    partial = io.BytesIO()
    fetch(site.url, partial, tag, pauses=())  # each attempt brought something, so none counts as failed
    assert partial.getvalue() == CONTENT
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-", "bytes=1500001-"]


def test_what_was_fetched_is_kept_for_the_next_call(site: Site, tag: Path) -> None:
    site.cuts = [700_000, 0, 0, 0]
    partial = io.BytesIO()
    with pytest.raises(WeightsError, match=r"broken off at 700000 bytes .*next attempt goes on"):
        fetch(site.url, partial, tag, pauses=NO_WAIT)
    assert partial.getvalue() == CONTENT[:700_000]
    fetch(site.url, partial, tag, pauses=())
    assert partial.getvalue() == CONTENT
    assert site.asked[-1] == "bytes=700000-"


@pytest.mark.parametrize("change", ["version", "ranges", "no tag"])
def test_a_beginning_that_cannot_be_trusted_is_fetched_again(site: Site, tag: Path, change: str) -> None:
    tag.write_text('"1"')
    if change == "version":
        site.version = '"2"'  # another file lies there now
    elif change == "ranges":
        site.ranges = False
    else:
        tag.unlink()
    partial = io.BytesIO(b"x" * 900_000)
    fetch(site.url, partial, tag)
    assert partial.getvalue() == CONTENT


def test_without_a_version_of_the_server_nothing_is_continued(site: Site, tag: Path) -> None:
    site.version, site.cuts = "", [700_000]
    partial = io.BytesIO()
    fetch(site.url, partial, tag, pauses=NO_WAIT)
    assert partial.getvalue() == CONTENT
    assert site.asked == [None, None]


def test_a_file_that_is_complete_already_is_left_alone_and_a_longer_one_is_not(site: Site, tag: Path) -> None:
    tag.write_text('"1"')
    partial = io.BytesIO(CONTENT)
    fetch(site.url, partial, tag, pauses=())
    assert (partial.getvalue(), len(site.asked)) == (CONTENT, 1)
    partial = io.BytesIO(CONTENT + b"more")
    fetch(site.url, partial, tag, pauses=NO_WAIT)
    assert partial.getvalue() == CONTENT


def test_a_server_in_trouble_is_asked_again_and_a_refusal_is_final(site: Site, tag: Path) -> None:
    site.refusals = [503, 429]
    partial = io.BytesIO()
    fetch(site.url, partial, tag, pauses=NO_WAIT)
    assert partial.getvalue() == CONTENT
    site.refusals = [503, 503, 503]
    with pytest.raises(WeightsError, match="HTTP 503"):
        fetch(site.url, io.BytesIO(), tag, pauses=NO_WAIT)
    site.refusals = [404]
    with pytest.raises(WeightsError, match="answers HTTP 404"):
        fetch(site.url, io.BytesIO(), tag, pauses=NO_WAIT)
    assert len(site.asked) == 7


def test_no_connection_is_told_at_once(tag: Path) -> None:
    with serving(Site(b"")) as gone:
        pass
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1.*cannot be reached"):
        fetch(gone.url, io.BytesIO(), tag, pauses=(60.0,))


def test_a_full_disk_is_no_trouble_of_the_line(site: Site, tag: Path) -> None:
    class Full(io.BytesIO):
        def write(self, block: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        fetch(site.url, Full(), tag, pauses=(60.0,))
    assert len(site.asked) == 1


def test_redirects_are_followed_but_not_out_of_encryption(site: Site, tag: Path) -> None:
    with serving(Site(b"", redirect=f"{site.url}/elsewhere")) as first:
        partial = io.BytesIO()
        fetch(first.url, partial, tag)
        assert partial.getvalue() == CONTENT
    request = urllib.request.Request("https://example.org/a")
    arguments = (request, io.BytesIO(), 302, "Found", {})
    with pytest.raises(WeightsError, match="not encrypted"):
        _SafeRedirects().redirect_request(*arguments, "http://example.org/b")
    assert _SafeRedirects().redirect_request(*arguments, "https://example.org/b") is not None
