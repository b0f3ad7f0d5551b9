"""Functions that users registered to be told of events: found by `module:function`, called one after another."""

from __future__ import annotations

import importlib
import inspect
import logging
import time
from collections.abc import Callable, Iterable
from difflib import get_close_matches

from sessionsweep.errors import ConfigurationError
from sessionsweep.model.events import Event

log = logging.getLogger(__name__)

Hook = Callable[[Event], object]

VARIABLE = "SESSIONSWEEP_EVENT_HOOKS"
REPEAT = 60.0  # seconds between two tracebacks of one hook


class Hooks:
    """Those of one process. What a hook raises is logged and passed over: the others are told, and the next event is.

    Args:
        names: `module:function`, as the setting EVENT_HOOKS has them.
        functions: further ones, given in code.

    Raises:
        ConfigurationError: a name leads to no function; it says which, and the fix.
    """

    def __init__(self, names: Iterable[str] = (), functions: Iterable[Hook] = ()) -> None:
        self._hooks = [(name, resolve(name)) for name in names]
        self._hooks += [(_name_of(function), _checked(_name_of(function), function)) for function in functions]
        self._silent_until: dict[int, float] = {}  # hook → when its next traceback may be logged

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def tell(self, event: Event) -> int:
        """Calls each with the event; how many raised."""
        failed = 0
        for number, (name, hook) in enumerate(self._hooks):
            try:
                hook(event)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # a hook's sys.exit(), CancelledError or gevent.Timeout isn't our thread's
                failed += 1
                self._complain(number, name, event, error)
        return failed

    def _complain(self, number: int, name: str, event: Event, error: BaseException) -> None:
        now = time.monotonic()
        if now >= self._silent_until.get(number, now):
            self._silent_until[number] = now + REPEAT
            log.error(
                "the event hook %s failed at %s, and is called again with the next event (told at most once a minute)",
                name, event.name, exc_info=error,
            )  # fmt: skip


def resolve(name: str) -> Hook:
    """The function that `module:function` names.

    Raises:
        ConfigurationError: there is none, or it can't be called with an event.
    """
    module_name, _, path = name.partition(":")
    where = f"{VARIABLE}: {name!r}:"
    try:
        found: object = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigurationError(
                f"{where} there is no module {error.name!r} here; install it, or put its folder on PYTHONPATH"
            ) from error
        raise ConfigurationError(f"{where} importing {module_name!r} failed: {error}") from error
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{where} importing {module_name!r} failed: {type(error).__name__}: {error}"
        ) from error
    for attribute in path.split("."):
        holder = found
        try:
            found = getattr(holder, attribute)
        except AttributeError:
            near = get_close_matches(attribute, dir(holder), n=1)
            fix = f"did you mean {near[0]!r}?" if near else "name a function of it"
            raise ConfigurationError(f"{where} {module_name!r} has no {attribute!r}; {fix}") from None
    return _checked(where.removesuffix(":"), found)


def _checked(where: str, found: object) -> Hook:
    if not callable(found):
        raise ConfigurationError(f"{where} is {type(found).__name__}, not a function; name one that takes an event")
    called = found if inspect.isroutine(found) or inspect.isclass(found) else getattr(found, "__call__", found)  # noqa: B004
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise ConfigurationError(f"{where} is asynchronous; hooks are called in a thread: make it a plain function")
    try:
        inspect.signature(found).bind(None)
    except ValueError:
        pass  # a built-in one doesn't tell what it takes
    except TypeError:
        raise ConfigurationError(
            f"{where} can't be called with one argument, the event; make it `def f(event)`"
        ) from None
    return found


def _name_of(function: Hook) -> str:
    return f"{getattr(function, '__module__', '?')}:{getattr(function, '__qualname__', repr(function))}"
