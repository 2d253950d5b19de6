"""What every Hydra entry point does around Hydra: errors without tracebacks, nearest right names."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from hydra._internal.hydra import Hydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from causalmix.config import AnalysisConfig, Config
from causalmix.errors import CausalMixError, ConfigError, nearest_name
from causalmix.files import NO_SPACE

MULTIRUN = ("-m", "--multirun")
WHOLE = "a whole number"
TYPES = {
    r"Value '(?P<given>.*)' of type '\w+' could not be converted to Integer": WHOLE,
    r"Value '(?P<given>.*)' of type '\w+' could not be converted to Float": "a number",
    r"Value '(?P<given>.*)' is not a valid bool": "true or false",
    r"is not a ListConfig": "a list, as [a,b]",
    r"Cannot merge DictConfig with": "a mapping, as {a: 1}",
    r"Cannot convert '\w+' to string": "one text, neither a list nor a mapping",
    r"is not Optional": "a value is needed, null is none",
}
"""What OmegaConf says of a value of the wrong type, and what the key takes."""

_GRAMMAR = ("no viable alternative", "mismatched input", "extraneous input", "LexerNoViableAlt", "token recognition")
_HOW_TO_QUOTE = (
    "Put quotes around an override that holds spaces, commas or braces: 'target.state={hes: .1, hes.math: .2}'. Where "
    "a value holds letters or signs that Hydra does not read, it takes quotes of its own inside: "
    "'target.caps=\"{C#: .2}\"'."
)


def hold_threads() -> None:
    """Give linear algebra one thread, unless the environment says how many; before it is loaded.

    Fits are of hundreds of runs: threads wait for each other longer than they compute, refits share the cores by
    themselves, and sums that threads make differ in the last bit from those of one.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def run_command(application: Callable[[], Any], arguments: Sequence[str]) -> int:
    """Run a Hydra application; a user's mistake ends as one message and exit status 2.

    Parameters
    ----------
    application : callable
        What ``hydra.main`` returned.
    arguments : sequence of str
        ``sys.argv``: the overrides are looked at before Hydra sees them.

    Returns
    -------
    int
        Exit status: 0, or 2 for an error that the user can mend.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let exceptions through to us; we print them
    sweeps = bool(set(MULTIRUN) & set(arguments))
    given = ["as_json=true" if text == "--json" else quote_runs(text, sweeps=sweeps) for text in arguments[1:]]
    sys.argv = [*arguments[:1], *sort_flags(given)]
    if sweeps:  # get_mode composes the whole config to ask what the flag has answered
        Hydra.get_mode = lambda *given, **named: None  # type: ignore[method-assign]
    try:
        refuse_sweep_without_multirun(given, name_program(arguments[0]))
        with end_with_reader():
            application()
    except CausalMixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    except (HydraException, OmegaConfBaseException) as error:
        cause = find_cause(error)
        if isinstance(cause, CausalMixError):
            print(f"error: {cause}", file=sys.stderr)
        else:
            print(f"error: {explain_hydra_error(str(error), str(cause))}", file=sys.stderr)
        return ConfigError.exit_status
    except OSError as error:
        print(f"error: {explain_full_disk(error)}", file=sys.stderr)
        return CausalMixError.exit_status
    except KeyboardInterrupt:
        print("stopped; what is complete stays. The same command goes on from here.", file=sys.stderr)
        return 130
    return 0


def explain_full_disk(error: OSError) -> str:
    """Say what to do where no space is left; any other error of the system goes on its way."""
    if error.errno not in NO_SPACE:
        raise error
    where = f" while writing {error.filename}" if error.filename else ""
    return (
        f"no space left on the disk ({error.strerror}){where}; nothing that was there is lost. Free some space and run "
        f"the same command again: what is complete is not repeated."
    )


@contextlib.contextmanager
def end_with_reader() -> Iterator[None]:
    """End a command quietly once nobody reads its output any more (``| head``).

    What is left to write goes nowhere: the interpreter's own flush at the end would complain of it.
    """
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        polled = select.poll()
        polled.register(sys.stdout.fileno(), 0)
        if not any(event & select.POLLERR for _, event in polled.poll(0)):
            raise  # another pipe than ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(128 + signal.SIGPIPE) from None


def sort_flags(arguments: Sequence[str]) -> list[str]:
    """Put ``-m`` first: Hydra's parser refuses it between overrides, where people type it too."""
    return sorted(arguments, key=lambda text: text not in MULTIRUN)


def quote_runs(text: str, *, sweeps: bool) -> str:
    """Put quotes around a ``runs=`` that Hydra's grammar would not take as one value.

    That is ``wandb:team/project?group=sweep``, a path with an equals sign and, where nothing is swept, several
    sources joined by commas.
    """
    marks = "=" if sweeps else "=,"
    value = rf"wandb:[^'\"]*|[^'\"({{\[$]*[{marks}][^'\"(]*"
    return re.sub(rf"^(\+{{0,2}}runs=)({value})$", r"\1'\2'", text)


def name_program(path: str) -> str:
    """Return what was typed to start the program at ``path``: ``python launch.py``, ``python -m analysis``."""
    if Path(path).name != "__main__.py":
        return f"python {Path(path).name}"
    package, folder = "", Path(path).parent
    while (folder / "__init__.py").exists():
        package, folder = f"{folder.name}.{package}", folder.parent
    return f"python -m {package.rstrip('.')}"


def end_with_message(task: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a Hydra task so that a user's mistake ends it at once: Hydra would put a line of its own first."""

    @functools.wraps(task)
    def ended(config: Any) -> Any:
        try:
            return task(config)
        except CausalMixError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(error.exit_status) from None

    return ended


def refuse_sweep_without_multirun(arguments: Sequence[str], program: str = "python launch.py") -> None:
    """Say what to type where ``seed=range(512)`` came without ``-m``.

    Raises
    ------
    ConfigError
        Where an override sweeps and neither ``-m`` nor ``--multirun`` was given.
    """
    if {*MULTIRUN, "--help", "-h", "--hydra-help"} & set(arguments):
        return
    candidates = [text for text in arguments if "=" in text and not text.startswith("-")]
    try:
        overrides = OverridesParser.create().parse_overrides(candidates)
    except HydraException:
        return  # Hydra reports what it cannot parse better than we can
    swept = [override.input_line or "" for override in overrides if override.is_sweep_override()]
    if swept:
        raise ConfigError(
            f"{', '.join(swept)} asks for several runs, but -m was not given: one run takes one value. "
            f"For a sweep type: {program} -m {' '.join(repr(text) for text in candidates)}"
        )


def find_cause(error: BaseException) -> BaseException:
    """Follow an exception to the first one behind it; an error of ours on the way is the one to show."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, CausalMixError):
            return behind
        behind = behind.__cause__ or behind.__context__  # OmegaConf cuts __cause__ off where a resolver raised
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def explain_hydra_error(message: str, cause: str) -> str:
    """Add the nearest right name to Hydra's word about an unknown key or group option."""
    text = message if cause in message else f"{message}\n{cause}"
    if any(sign in text for sign in _GRAMMAR):
        return f"{first_line(text)}\n{_HOW_TO_QUOTE}"
    option = re.search(
        r"Could not find '([^'/]+)/([^']+)'\s+Available options in '[^']+':\s+((?:\S+\s+)+?)Config", text
    )
    if option:
        group, given = option.group(1), option.group(2)
        options = [name for name in option.group(3).split() if name != "schema"]
        return f"{group}={given} is not one of {', '.join(options)}{nearest_name(given, options)}"
    for pattern in (
        r"Could not override '([^']+)'",
        r"Key '([^']+)' is not in struct",
        r"Key '([^']+)' not in '",
    ):
        match = re.search(pattern, text)
        if match:
            given = match.group(1)
            full_key = re.search(r"full_key: (\S+)", text)
            if full_key and not given.startswith(full_key.group(1)):
                given = full_key.group(1)
            if given in known_keys():  # the key is right, and what was given for it is not
                return f"'{given}' does not take that value: {first_line(cause)}"
            return (
                f"unknown key '{given}'{suggest_key(given)}. "
                f"Every key stands in src/causalmix/config.\n{first_line(text)}"
            )
    return explain_type(text) or re.sub(r"\n +(?:full_key|reference_type|object_type)[:=].*", "", text)


def explain_type(text: str) -> str | None:
    """Say what a key takes where OmegaConf refused a value's type; None where it is about something else."""
    key = re.search(r"full_key: (\S+)", text)
    if not key:
        return None
    for pattern, allowed in TYPES.items():
        match = re.search(pattern, text)
        if match:
            given = match.groupdict().get("given") or find_given(text, key.group(1))
            if allowed == WHOLE and key.group(1).endswith("_min"):
                allowed = "a whole number of minutes, 1 or more"
            return f"{key.group(1)}={given}: {allowed}"
    return None


def find_given(text: str, key: str) -> str:
    """Find what was given for a key in an error that shows the override, not the value."""
    match = re.search(rf"override \+{{0,2}}{re.escape(key)}=(.*)", text)
    return match.group(1) if match else "..."


def suggest_key(given: str) -> str:
    """Find the nearest right key part by part: the group first, then what stands in it."""
    keys = known_keys()
    found = ""
    for part in given.split("."):
        level = {key[len(found) :].split(".")[0] for key in keys if key.startswith(found)}
        close = difflib.get_close_matches(part, sorted(level), n=1, cutoff=0.6)
        if not close:
            break
        found += f"{close[0]}."
    if found:
        whole = found.count(".") > given.count(".")
        return f" (did you mean '{found[:-1]}'?)" if whole else f" (did you mean something in '{found[:-1]}'?)"
    leaves = {key.rsplit(".", 1)[-1]: key for key in keys}
    close = difflib.get_close_matches(given.rsplit(".", 1)[-1], sorted(leaves), n=1, cutoff=0.6)
    return f" (did you mean '{leaves[close[0]]}'?)" if close else ""


def known_keys() -> list[str]:
    """List every dotted key of the launch and the analysis config."""
    return sorted({*_walk(Config), *_walk(AnalysisConfig)})


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return next((line for line in text.splitlines() if line.strip()), "")


def _walk(node: type[Any], prefix: str = "") -> list[str]:
    keys = []
    hints = get_type_hints(node)
    for item in fields(node):
        keys.append(prefix + item.name)
        inner = next((t for t in (hints[item.name], *get_args(hints[item.name])) if is_dataclass(t)), None)
        if isinstance(inner, type):
            keys.extend(_walk(inner, f"{prefix}{item.name}."))
    return keys
