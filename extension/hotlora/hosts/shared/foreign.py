"""What others have hooked into a program's model: told from the program's own, taken off for a turn, and put back.

An extension that keeps its last picture's LoRA in the layers would be trained on in silence. Its functions are known by where they come
from: Python modules that the program is made of are its own, everything else is foreign. Changes of a whole class are not looked for. Must
not know any program.
"""

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from types import MethodType
from typing import Any

from torch import nn

# Of which models are made, wherever they live; what these hook in, a model needs.
LIBRARIES = frozenset(
    {"torch", "torchao", "transformers", "accelerate", "bitsandbytes", "peft", "xformers", "flash_attn", "liger_kernel", "deepspeed"}
    | {"intel_extension_for_pytorch", "torch_directml", "hotlora"}
)
_FORWARDS = ("forward", "_forward")  # on the module itself, where its class's would be called
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")
_EXTENSION = re.compile(r"[\\/]extensions[\\/]([^\\/]+)[\\/]")
_UNKNOWN = "an extension"
_BUILT_IN = re.compile(r"[\\/]extensions-builtin[\\/]")


@contextlib.contextmanager
def foreign_hooks_off(modules: Iterable[nn.Module], own: Collection[str]) -> Iterator[None]:
    """The modules without anybody else's hooks and forwards; afterwards the same ones are there in the same order, with what has come
    since behind them.

    Args:
        own: names of the top-level Python modules that the program is made of.
    """
    with contextlib.ExitStack() as undo:
        for module in modules:
            for name, function in _foreign_forwards(module, own):
                del vars(module)[name]
                undo.callback(vars(module).setdefault, name, function)  # somebody's newer one stays
            for kind in _HOOKS:
                hooks = getattr(module, kind)
                taken = [key for key, hook in hooks.items() if not is_own(hook, own)]
                if taken:
                    undo.callback(_put_hooks_back, hooks, list(hooks.items()), taken)
                    for key in taken:
                        del hooks[key]
        yield


def _put_hooks_back(hooks: dict[int, Any], before: list[tuple[int, Any]], taken: list[int]) -> None:
    now = dict(hooks)
    hooks.clear()
    hooks.update({key: hook for key, hook in before if key in taken or key in now} | now)


def _foreign_forwards(module: nn.Module, own: Collection[str]) -> list[tuple[str, Any]]:
    found = [(name, vars(module).get(name)) for name in _FORWARDS]
    return [(name, function) for name, function in found if function is not None and not is_own(function, own, module)]


def name_foreign(modules: Iterable[nn.Module], own: Collection[str]) -> list[str]:
    """Who has hooked something into the modules that :func:`foreign_hooks_off` takes off."""
    names = set()
    for module in modules:
        hooks = (hook for kind in _HOOKS for hook in getattr(module, kind).values())
        functions = [*(hook for hook in hooks if not is_own(hook, own)), *(function for _, function in _foreign_forwards(module, own))]
        names |= {name_owner(function, module) for function in functions}
    return sorted(names)


def find_irremovable(modules: Iterable[nn.Module], own: Collection[str], marks: Mapping[str, str]) -> str | None:
    """Who has changed the modules in a way that cannot be taken off and put back bit for bit; None where nobody has.

    Args:
        marks: attribute of a module with merged weights -> who leaves it there.
    """
    for module in modules:
        owners = [*_owners_of_weights(module, own), *(owner for mark, owner in marks.items() if mark in vars(module))]
        foreign = _foreign_forwards(module, own)
        if foreign and "_hf_hook" in vars(module):  # accelerate's own forward, which places the layer, is somewhere below it
            owners.append(name_owner(foreign[0][1], module))
        if owners:
            return owners[0]
    return None


def _owners_of_weights(module: nn.Module, own: Collection[str]) -> Iterator[str]:
    """Of those that are computed, of another class or hidden."""
    parameters, computed = vars(module)["_parameters"], vars(module)["_modules"].get("parametrizations")
    for steps in computed.values() if computed is not None else ():
        yield from (name_owner(step) for step in steps if not is_own(step, own))
    for parameter in parameters.values():
        if parameter is not None and type(parameter) is not nn.Parameter and not is_own(parameter, own):
            yield name_owner(parameter)
    normed = any(name.startswith("weight_") for name in parameters)  # torch's weight_norm and spectral_norm set it at each call
    if isinstance(module, (nn.Linear, nn.Conv2d)) and "weight" in vars(module) and not normed:
        yield next(iter(name_foreign([module], own)), _UNKNOWN)


def is_own(found: Any, own: Collection[str], module: nn.Module | None = None) -> bool:
    """Whether a function, or an object that is called as one, is the program's.

    Args:
        module: what the function stands on. One that belongs to another object is that one's owner's, whoever wrote the function.
    """
    return all(_is_at_home(source, own) for source in _find_sources(found, module))


def name_owner(found: Any, module: nn.Module | None = None) -> str:
    """For people: the extension's folder where there is one, and the Python module."""
    sources = _find_sources(found, module)
    named = [f"the extension {match[1]} ({name})" for name, file, _ in sources if (match := _EXTENSION.search(file))]
    return named[0] if named else f"the Python module {sources[0][0]}" if sources[0][0] else _UNKNOWN


_Source = tuple[str, str, Any]  # name of the Python module, the file, the globals


def _find_sources(found: Any, module: nn.Module | None) -> list[_Source]:
    """Where a callable comes from, and what it wraps; decorators copy names, so its own globals are asked."""
    while isinstance(found, functools.partial):
        found = found.func
    if isinstance(found, MethodType):
        holder = found.__self__
        if module is not None and holder is not module and type(holder).__module__.partition(".")[0] == "torch":
            return [("", "", None)]  # a plain layer that somebody has put in this one's place
        if holder is not module and not inspect.isclass(holder):
            return [_source_of_class(type(holder))]
        found = found.__func__
    if not inspect.isfunction(found):
        return [_source_of_class(type(found))]
    return [_source_of_function(found), *(_find_sources(found.__wrapped__, module) if hasattr(found, "__wrapped__") else [])]


def _source_of_function(function: Any) -> _Source:
    return function.__globals__.get("__name__", ""), function.__code__.co_filename, function.__globals__


def _source_of_class(kind: type) -> _Source:
    for member in vars(kind).values():
        if inspect.isfunction(member) and member.__module__ == kind.__module__ and not member.__code__.co_filename.startswith("<"):
            return _source_of_function(member)
    known = sys.modules.get(kind.__module__)
    return kind.__module__, str(getattr(known, "__file__", None) or ""), vars(known) if known else None


def _is_at_home(source: _Source, own: Collection[str]) -> bool:
    """A file that was executed by its path may call itself anything, and so is none of the Python modules of that name."""
    name, file, names = source
    is_module = names is not None and getattr(sys.modules.get(name), "__dict__", None) is names
    return (is_module and name.partition(".")[0] in own) or bool(_BUILT_IN.search(file))
