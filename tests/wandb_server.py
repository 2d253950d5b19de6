"""A W&B server on the loopback: the calls that runs, uploads and the public API make, and faults on demand.

It answers the real client, so what it is asked is what W&B is asked. It keeps runs in memory; config and
summary stay the JSON text that came, so a digit that the way costs is a digit that a test sees.
"""

from __future__ import annotations

import gzip
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

KEY = "0" * 36 + "cafe"  # W&B wants forty characters; a test can look for this one where no key may be
ENTITY = "team"

Fault = Callable[[str, int], str | None]
"""(what is asked, how often it was asked before) -> "429", "500", "drop", "hang" or None: answer."""


@dataclass
class ServedRun:
    """One run, as the server holds it."""

    name: str
    project: str = "causalmix"
    group: str | None = None
    job_type: str | None = None
    state: str = "running"
    config: str = "{}"
    summary: str = "{}"
    history: list[str] = field(default_factory=list)
    created: int = 0
    n_upserts: int = 0

    def to_node(self) -> dict[str, Any]:
        """Return what the API says about a run."""
        stamp = f"2026-11-01T00:{self.created // 60 % 60:02d}:{self.created % 60:02d}Z"
        return {
            "id": f"run-{self.name}",
            "name": self.name,
            "displayName": self.name,
            "projectId": "1",
            "internalId": "1",
            "tags": [],
            "sweepName": None,
            "state": self.state,
            "group": self.group,
            "jobType": self.job_type,
            "commit": None,
            "readOnly": False,
            "createdAt": stamp,
            "heartbeatAt": stamp,
            "description": None,
            "notes": None,
            "config": self.config,
            "summaryMetrics": self.summary,
            "systemMetrics": "{}",
            "historyLineCount": len(self.history),
            "historyKeys": json.dumps({"keys": {}, "lastStep": len(self.history)}),
            "user": {"name": "u", "username": "u"},
        }


class WandbServer:
    """The server; a context manager that leaves no thread behind.

    Attributes
    ----------
    runs : dict of str to ServedRun
        In the order in which they came.
    extra : list of ServedRun
        Further runs for the API to list, which may have names that are taken.
    views : dict of str to dict
        Saved reports and workspaces, by id.
    asked : Counter
        How often each thing was asked: the name of a GraphQL operation, ``file_stream``, ``upload``.
    fault : callable
        Decides whether a request is answered; replace it at any time.
    """

    def __init__(self, runs: Iterable[ServedRun] = (), fault: Fault | None = None) -> None:
        self.runs: dict[str, ServedRun] = {run.name: run for run in runs}
        self.extra: list[ServedRun] = []
        self.views: dict[str, dict[str, Any]] = {}
        self.asked: Counter[str] = Counter()
        self.variables: list[tuple[str, dict[str, Any]]] = []
        self.fault: Fault = fault or (lambda _what, _n: None)
        self.lock = threading.Lock()
        self.closing = threading.Event()
        handler = type("Handler", (_Handler,), {"home": self})
        self.http = _QuietServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def url(self) -> str:
        """Address to give to the client as ``WANDB_BASE_URL``."""
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> WandbServer:
        self.thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.http.shutdown()
        self.http.server_close()
        self.thread.join(5)

    def answer(self, operation: str, variables: dict[str, Any]) -> dict[str, Any]:
        """Answer a GraphQL operation with its ``data``."""
        self.variables.append((operation, variables))
        answers = {
            "UpsertBucket": self._upsert,
            "RunResumeStatus": self._tell_resume_status,
            "Runs": self._list_runs,
            "CreateRunFiles": self._take_files,
            "ProjectInternalId": self._find_project,
            "GetProjects": self._list_projects,
            "upsertView": self._save_view,
            "UpsertView2": self._save_view,
            "SpecificReport": self._load_report,
            "View": self._load_view,
        }
        return answers.get(operation, _answer_the_rest)(variables)

    def stream(self, name: str, body: dict[str, Any]) -> None:
        """Take in what a run sends while it goes: history, summary, its end."""
        run = self.runs[name]
        files = body.get("files") or {}
        if "wandb-summary.json" in files:
            run.summary = files["wandb-summary.json"]["content"][-1]
        if "wandb-history.jsonl" in files:
            part = files["wandb-history.jsonl"]
            run.history[part["offset"] :] = part["content"]
        if body.get("complete"):
            run.state = "finished" if body.get("exitcode") == 0 else "failed"

    def _upsert(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        run = self.runs.setdefault(name, ServedRun(name, created=len(self.runs)))
        run.n_upserts += 1
        run.project = variables.get("project") or run.project
        run.group = variables.get("groupName") or run.group
        run.job_type = variables.get("jobType") or run.job_type
        run.config = variables.get("config") or run.config
        run.summary = variables.get("summaryMetrics") or run.summary
        bucket = {
            "id": f"run-{name}",
            "name": name,
            "displayName": name,
            "description": "",
            "config": run.config,
            "sweepName": None,
            "historyLineCount": len(run.history),
            "project": {"id": "p", "name": run.project, "entity": {"id": "e", "name": ENTITY}},
        }
        return {"upsertBucket": {"bucket": bucket, "inserted": run.n_upserts == 1}}

    def _tell_resume_status(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(variables["name"])
        bucket = None
        if run is not None:
            bucket = {
                **run.to_node(),
                "wandbConfig": json.dumps({"t": 1}),
                "logLineCount": 0,
                "eventsLineCount": 0,
                "historyTail": json.dumps(run.history[-1:]),
                "eventsTail": "[]",
            }
        return {"model": {"id": "p", "name": "causalmix", "entity": {"id": "e", "name": ENTITY}, "bucket": bucket}}

    def _list_runs(self, variables: dict[str, Any]) -> dict[str, Any]:
        filters = json.loads(variables.get("filters") or "{}")
        found = [run for run in [*self.runs.values(), *self.extra] if _matches(run, variables["project"], filters)]
        start = int(variables.get("cursor") or 0)
        page = found[start : start + variables.get("perPage", 50)]
        end = start + len(page)
        edges = [{"node": run.to_node(), "cursor": str(start + i + 1)} for i, run in enumerate(page)]
        runs = {"edges": edges, "pageInfo": {"endCursor": str(end), "hasNextPage": end < len(found)}}
        if not any(run.project == variables["project"] for run in [*self.runs.values(), *self.extra]):
            return {"project": None}
        project = {"id": "1", "internalId": "1", "runCount": len(found), "readOnly": False, "runs": runs}
        return {"project": project}

    def _list_names(self) -> list[str]:
        return sorted({run.project for run in [*self.runs.values(), *self.extra]})

    def _find_project(self, variables: dict[str, Any]) -> dict[str, Any]:
        is_there = variables["projectName"] in self._list_names()
        return {"project": {"id": "1", "internalId": "1"} if is_there else None}

    def _list_projects(self, _variables: dict[str, Any]) -> dict[str, Any]:
        facts = {"__typename": "Project", "id": "1", "entityName": ENTITY, "user": None}
        facts |= {"createdAt": "2026-11-01T00:00:00Z", "isBenchmark": False}
        edges = [{"node": facts | {"name": name}} for name in self._list_names()]
        return {
            "models": {"pageInfo": {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}, "edges": edges}
        }

    def _save_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        key = variables.get("id") or f"Vmlldzo{len(self.views)}"
        is_new = key not in self.views
        view = self.views.get(key, {}) | {name: value for name, value in variables.items() if value is not None}
        project = {"id": "1", "name": view["projectName"], "entityName": view["entityName"]}
        stamp = {"createdAt": "2026-11-01T00:00:00Z", "updatedAt": "2026-11-01T00:00:00Z"}
        self.views[key] = view | {"id": key, "project": project, **stamp}
        return {"upsertView": {"view": self.views[key], "inserted": is_new}}

    def _load_report(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"view": self.views.get(variables["reportId"])}

    def _load_view(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = [{"node": view} for view in self.views.values() if view["name"] == variables["viewName"]]
        return {"project": {"allViews": {"edges": nodes}}}

    def _take_files(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/storage/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}


def _matches(run: ServedRun, project: str, filters: Mapping[str, Any]) -> bool:
    if run.project != project:
        return False
    for key, wanted in filters.items():
        value = {"group": run.group, "jobType": run.job_type, "state": run.state}[key]
        allowed = wanted["$in"] if isinstance(wanted, dict) else [wanted]
        if value not in allowed:
            return False
    return True


def _answer_the_rest(_variables: dict[str, Any]) -> dict[str, Any]:
    versions = {"max_cli_version": "99.0.0", "min_cli_version": "0.1"}
    viewer = {
        "id": "V",
        "flags": "{}",
        "entity": ENTITY,
        "username": "u",
        "name": "u",
        "email": "u@example.org",
        "admin": False,
        "deletedAt": None,
        "teams": {"edges": []},
        "apiKeys": {"edges": []},
    }
    server = {"features": [], "cliVersionInfo": versions, "latestLocalVersionInfo": None}
    artifact = {"id": "A", "state": "COMMITTED", "artifactSequence": {"id": "S", "latestArtifact": None}}
    organisation = {"coreWeaveOrganizationId": None, "name": ENTITY}
    return {
        "viewer": viewer,
        "serverInfo": server,
        "createArtifact": {"artifact": artifact},
        "entity": {"organization": organisation},
        "organization": organisation,
    }


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing about a client that was killed or dropped: that is what the tests do."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    home: WandbServer

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self._answer("get", lambda: {})

    def do_PUT(self) -> None:
        self._answer("upload", lambda: {})

    def do_POST(self) -> None:
        if self.path.endswith("/file_stream"):
            name = self.path.split("/")[-2]
            body = self._read()

            def stream() -> dict[str, Any]:
                self.home.stream(name, json.loads(body))
                return {"exitcode": None, "limits": {}}

            self._answer("file_stream", stream, read=False)
            return
        if not self.path.endswith("/graphql"):
            self._answer(self.path.rsplit("/", 1)[-1], lambda: {})  # the client's telemetry
            return
        asked = json.loads(self._read())
        found = re.search(r"(?:query|mutation)\s+(\w+)", asked.get("query", ""))
        operation = found.group(1) if found else "post"
        self._answer(operation, lambda: {"data": self.home.answer(operation, asked.get("variables") or {})}, read=False)

    def _answer(self, what: str, make: Callable[[], dict[str, Any]], read: bool = True) -> None:
        if read:
            self._read()
        home = self.home
        with home.lock:
            n_before = home.asked[what]
            home.asked[what] += 1
            fault = home.fault(what, n_before)
            content = make() if fault is None else {"errors": [{"message": f"fault {fault}"}]}
        if fault == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if fault == "hang":
            home.closing.wait(60)
            self.close_connection = True
            return
        data = json.dumps(content).encode()
        self.send_response(int(fault) if fault else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if fault == "429":
            self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(data)

    def _read(self) -> bytes:
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        return gzip.decompress(data) if self.headers.get("Content-Encoding") == "gzip" else data


def wait_until(condition: Callable[[], bool], wait_s: float = 20.0) -> None:
    """Wait for something that another process brings about, and fail where it does not."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)
