"""Predictors and flows by name: built in, built in with an argument, or brought by an installed package."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from typing import Any

from nvds_core.types import ConfigError, CoreError

Factory = Callable[..., Any]

# The last question mark that is followed by options only; a path may hold others.
_OPTIONS = re.compile(r"\?(\w+=[^?]*)$", re.DOTALL)
_NEXT_OPTION = re.compile(r"&(?=\w+=)")


@dataclass(frozen=True)
class PluginName:
    """What a user wrote, in parts: ``folder:maps?quantity=depth`` is base ``folder``, argument ``maps``, one option."""

    base: str
    argument: str | None
    options: Mapping[str, str]


def parse_name(text: str) -> PluginName:
    """Take a name apart: ``NAME``, ``SCHEME:ARGUMENT``, either with ``?option=value&option=value`` behind it."""
    found = _OPTIONS.search(text)
    options = dict(part.split("=", 1) for part in _NEXT_OPTION.split(found[1])) if found else {}
    base, colon, argument = (text[: found.start()] if found else text).partition(":")
    return PluginName(base, argument if colon else None, options)


@dataclass(frozen=True)
class Made:
    """What a factory returned, and the package that brought the factory (None: this one)."""

    value: Any
    package: str | None


class Foreign:
    """An object of another package behind checks of ours; attributes they do not cover are those of the object.

    Args:
        inner: the object.
        title: what it is called in errors.
    """

    def __init__(self, inner: Any, title: str) -> None:
        self._inner, self._title = inner, title

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):  # also keeps unpickling from asking for _inner before it is there
            raise AttributeError(attribute)
        return getattr(self._inner, attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        if attribute == "precision":  # how a network that has this setting is told to compute
            setattr(self._inner, attribute, value)
        else:
            super().__setattr__(attribute, value)


@dataclass(frozen=True)
class Registry:
    """Factories of one kind of thing by name.

    Factories are imported when their name is first used and called as ``factory(device, **options)``, those of schemes
    as ``factory(argument, device, **options)``; options that come from a name are texts.

    Attributes:
        noun: what is made, for messages.
        group: the entry-point group that installed packages join.
        builtin: name -> ``module:factory``.
        schemes: scheme -> (what its argument is, ``module:factory``).
        registered: name -> factory, what this program itself added.
    """

    noun: str
    group: str
    builtin: Mapping[str, str]
    schemes: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    registered: dict[str, Factory] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """What can be asked for, sorted; schemes as ``folder:PATH``."""
        schemes = [f"{scheme}:{argument}" for scheme, (argument, _) in self.schemes.items()]
        installed = [point.name for point in entry_points(group=self.group)]
        return tuple(sorted({*self.builtin, *schemes, *self.registered, *installed}))

    def register(self, name: str, factory: Factory) -> None:
        """Add a factory for the life of this process.

        Raises:
            ConfigError: the name is taken by another factory.
        """
        taken = name in self.builtin or name in self.schemes
        if taken or self.registered.setdefault(name, factory) is not factory:
            raise ConfigError(f"{self.noun} {name!r} is already registered; choose another name")

    def make(self, text: str, device: Any, options: Mapping[str, Any] | None = None) -> Made:
        """Make what a name stands for; ``options`` go before those in the name.

        Raises:
            ConfigError: an unknown or contested name, options that are not taken, a package that fails.
            CoreError: as the factory raises it.
        """
        name = parse_name(text)
        factory, package = self._find(name, text)
        arguments = [device] if name.argument is None else [name.argument, device]
        options = {**name.options, **(options or {})}
        self._check_options(text, factory, arguments, options)
        if package is None:
            return Made(factory(*arguments, **options), None)
        try:
            return Made(factory(*arguments, **options), package)
        except CoreError:
            raise
        except Exception as error:  # foreign code, which may raise anything
            raise self._broken(text, package, error) from error

    def _find(self, name: PluginName, text: str) -> tuple[Factory, str | None]:
        """The factory of a name and the package that brings it."""
        points = [point for point in entry_points(group=self.group) if point.name == name.base]
        target = self.builtin.get(name.base)
        if name.base in self.schemes:
            meaning, target = self.schemes[name.base]
            if not name.argument:
                raise ConfigError(f"{self.noun} {text!r} lacks its argument; write {name.base}:{meaning}")
        elif name.argument is not None:
            raise self._unknown(text)
        own = target is not None or name.base in self.registered
        if len(points) > 1 or (points and own):
            rivals = ["this program"] * own + [_package(point) for point in points]
            raise ConfigError(
                f"{self.noun} {name.base!r} is brought by {' and by '.join(rivals)}; uninstall one or rename it"
            )
        if target is not None:
            module, factory = target.split(":")
            return getattr(import_module(module), factory), None
        if own:
            return self.registered[name.base], "this program"
        if not points:
            raise self._unknown(text)
        try:
            return points[0].load(), _package(points[0])
        except Exception as error:  # importing foreign code may raise anything
            raise self._broken(text, _package(points[0]), error) from error

    def _check_options(self, text: str, factory: Factory, arguments: list[Any], options: Mapping[str, Any]) -> None:
        try:
            takes = signature(factory)
        except (TypeError, ValueError):  # not callable, or written in C without a signature: calling it will tell
            return
        try:
            takes.bind(*arguments, **options)
        except TypeError as error:
            raise ConfigError(f"{self.noun} {text!r} does not take these options: {error}") from error

    def _unknown(self, text: str) -> ConfigError:
        return ConfigError(f"unknown {self.noun} {text!r}; known: {', '.join(self.names())}")

    def _broken(self, text: str, package: str, error: Exception) -> ConfigError:
        return ConfigError(
            f"{self.noun} {text!r} of {package} does not work: {type(error).__name__}: {error}; "
            "mend that package or choose another name"
        )


def _package(point: EntryPoint) -> str:
    return f"package {point.dist.name} {point.dist.version}" if point.dist else f"entry point {point.value}"
