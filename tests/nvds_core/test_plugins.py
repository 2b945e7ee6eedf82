from __future__ import annotations

import pickle

import numpy as np
import pytest

from nvds_core.flow import create_flow, flow_names
from nvds_core.plugins import Registry, parse_name
from nvds_core.predictors.base import create_predictor, predictor_names
from nvds_core.types import ConfigError, CoreError, ShapeError, WeightsError
from tests.plugin_site import plugin_site


@pytest.fixture
def site(tmp_path):
    with plugin_site(tmp_path) as found:
        yield found


PREDICTOR = """
    import numpy as np

    class Dark:
        name, short_side, multiple = "dark", 96, 14

        def __init__(self, device, gain="1"):
            self.gain, self.digest = float(gain), f"1:{gain}"

        def predict(self, unit_rgb):
            return self.gain * (1.0 - unit_rgb.mean(axis=3))
"""


@pytest.mark.parametrize(
    ("text", "base", "argument", "options"),
    [
        ("tiny", "tiny", None, {}),
        ("folder:a/b", "folder", "a/b", {}),
        ("folder:C:\\maps", "folder", "C:\\maps", {}),
        ("folder:what?/x", "folder", "what?/x", {}),
        ("folder:what?/x?quantity=depth", "folder", "what?/x", {"quantity": "depth"}),
        ("x?a=1&b=2=3", "x", None, {"a": "1", "b": "2=3"}),
        ("x?weights=R&D/w.pth", "x", None, {"weights": "R&D/w.pth"}),
        ("folder:", "folder", "", {}),
    ],
)
def test_a_name_is_taken_apart(text, base, argument, options):
    name = parse_name(text)
    assert (name.base, name.argument, dict(name.options)) == (base, argument, options)


def test_an_installed_predictor_is_found_by_name_and_takes_options(site):
    assert "dark" not in predictor_names()
    site.install("darkness", PREDICTOR, {"nvds.predictors": {"dark": "darkness:Dark"}})
    assert "dark" in predictor_names()
    pictures = np.random.default_rng(0).random((2, 32, 64, 3))
    predictor = create_predictor("dark?gain=2")
    assert (predictor.name, predictor.digest, predictor.short_side) == ("dark", "dark:1:2", 96)
    assert predictor.multiple == 224, "what both the predictor and the stabiliser can take"
    found = predictor.predict(pictures)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 2 * (1 - pictures.mean(axis=3)), atol=1e-6)


def test_an_installed_flow_is_found_by_name(site):
    code = """
        import numpy as np

        class Still:
            name, digest = "still", "1"

            def __init__(self, device): ...

            def estimate(self, previous_rgb, current_rgb):
                return self.estimate_to_previous(previous_rgb, current_rgb), np.zeros((2, 3, 4))

            def estimate_to_previous(self, previous_rgb, current_rgb):
                return np.zeros((2, *current_rgb.shape[:2]))
    """
    site.install("stillness", code, {"nvds.flows": {"still": "stillness:Still"}})
    assert "still" in flow_names()
    flow, frame = create_flow("still"), np.zeros((3, 4, 3))
    assert flow.digest == "still:1", "with the name, as other packages have a version 1 as well"
    to_previous, to_next = flow.estimate(frame, frame)
    assert to_previous.shape == to_next.shape == (2, 3, 4)
    assert to_previous.dtype == np.float32
    wide = np.zeros((3, 5, 3))
    with pytest.raises(ShapeError, match=r"flow 'still' of package stillness 1.2 returned float64 \(2, 3, 4\)"):
        flow.estimate(wide, wide)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemError('at home only')", "SystemError: at home only"),
        ("Other = 1", "AttributeError"),
        ("def Dark(device): raise KeyError('weights')", "KeyError: 'weights'"),
        ("Dark = 3", "TypeError"),
        ("class Dark:\n  def __init__(self, device): self.name = self.digest = 'd'", "short_side is 'nothing'"),
        (
            "class Dark:\n  name = digest = 'd'; short_side = multiple = 32\n  def __init__(self, device): ...",
            "predict",
        ),
        ("def Dark(): ...", "does not take these options"),
    ],
)
def test_a_broken_package_harms_nobody_until_it_is_used_and_is_then_named(site, code, problem):
    site.install("darkness", code, {"nvds.predictors": {"dark": "darkness:Dark"}})
    assert "dark" in predictor_names()
    assert create_predictor("tiny").name == "tiny"
    with pytest.raises(ConfigError, match="predictor 'dark'") as error:
        create_predictor("dark")
    assert problem in str(error.value)
    if "options" not in problem:
        assert "of package darkness 1.2" in str(error.value)


def test_errors_that_a_package_foresaw_pass_unchanged(site):
    code = "from nvds_core import WeightsError\ndef Dark(device): raise WeightsError('fetch dark.pth')"
    site.install("darkness", code, {"nvds.predictors": {"dark": "darkness:Dark"}})
    with pytest.raises(WeightsError, match=r"^fetch dark.pth$"):
        create_predictor("dark")


def test_a_package_cannot_take_a_built_in_name_nor_can_two_share_one(site):
    predictors, flows = {"tiny": "darkness:Dark", "dark": "darkness:Dark"}, {"dis": "darkness:Dark"}
    site.install("darkness", PREDICTOR, {"nvds.predictors": predictors, "nvds.flows": flows})
    for create, name in ((create_predictor, "tiny"), (create_flow, "dis")):
        with pytest.raises(ConfigError, match=f"'{name}' is brought by this program and by package darkness 1.2"):
            create(name)
    site.install("night", PREDICTOR, {"nvds.predictors": {"dark": "night:Dark"}})
    with pytest.raises(ConfigError, match=r"package (darkness|night) 1.2 and by package (darkness|night) 1.2"):
        create_predictor("dark")
    assert create_flow("dis-fast").name == "dis-fast"


@pytest.mark.parametrize(
    ("result", "error", "words"),
    [
        ("np.zeros((1, 2, 2), np.float32)", ShapeError, r"float32 \(1, 2, 2\) .* must return float \(2, 32, 64\)"),
        ("(255 * unit_rgb[..., 0]).astype(np.uint8)", ShapeError, "returned uint8"),
        ("np.full(unit_rgb.shape[:3], np.nan)", CoreError, "not finite"),
    ],
)
def test_what_a_package_returns_is_checked(site, result, error, words):
    body = PREDICTOR.replace("self.gain * (1.0 - unit_rgb.mean(axis=3))", result)
    site.install("darkness", body, {"nvds.predictors": {"dark": "darkness:Dark"}})
    with pytest.raises(error, match=f"predictor 'dark' of package darkness 1.2.*{words}"):
        create_predictor("dark").predict(np.zeros((2, 32, 64, 3)))


def test_a_network_of_a_package_is_told_its_precision_and_travels_to_a_worker(site):
    site.install("darkness", PREDICTOR, {"nvds.predictors": {"dark": "darkness:Dark"}})
    predictor = create_predictor("dark")
    assert getattr(predictor, "precision", None) is None
    predictor._inner.precision = "fp32"
    predictor.precision = "bf16"
    assert (predictor.precision, predictor._inner.precision) == ("bf16", "bf16")
    assert pickle.loads(pickle.dumps(predictor)).digest == predictor.digest


def test_options_that_nothing_takes_are_refused():
    with pytest.raises(ConfigError, match=r"predictor 'tiny\?gain=2' does not take these options.*gain"):
        create_predictor("tiny?gain=2")


def test_a_scheme_needs_its_argument_and_others_take_none():
    registry = Registry("thing", "nvds.nothing", {"plain": "builtins:list"}, {"kind": ("WHAT", "builtins:slice")})
    assert registry.names() == ("kind:WHAT", "plain")
    assert registry.make("kind:a", 1).value == slice("a", 1)
    with pytest.raises(ConfigError, match="thing 'kind:' lacks its argument; write kind:WHAT"):
        registry.make("kind:", 1)
    with pytest.raises(ConfigError, match="thing 'kind' lacks its argument"):
        registry.make("kind", 1)
    with pytest.raises(ConfigError, match="unknown thing 'plain:a'; known: kind:WHAT, plain"):
        registry.make("plain:a", 1)


def test_every_built_in_name_leads_somewhere():
    from nvds_core.flow.base import REGISTRY as FLOW_REGISTRY
    from nvds_core.predictors.base import REGISTRY as PREDICTOR_REGISTRY

    for registry in (FLOW_REGISTRY, PREDICTOR_REGISTRY):
        targets = [*registry.builtin.values(), *(target for _, target in registry.schemes.values())]
        for target in targets:
            module, factory = target.split(":")
            assert callable(getattr(__import__(module, fromlist=[factory]), factory)), target
