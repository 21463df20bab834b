"""An interpreter behind a URL: the surface of ``Interpreter``, spoken to a tool server. Never falls back to local."""

from __future__ import annotations

import ast
import contextlib
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any
from urllib.parse import quote

import httpx

from ferrule.core.exact import read
from ferrule.core.records import Observation

__all__ = ["RemoteInterpreter"]

_SLACK = 90.0  # seconds that the server may take on top of a call's limit: waiting for its turn, starting a process
_BUSY = ("queue_full", "too_many_episodes", "worker_unavailable")
_NAMES = "{_k: type(_v).__name__ for _k, _v in list(globals().items()) if _k[:2] != '__'}"


class RemoteInterpreter:
    """A Python interpreter on the server at ``url`` (``ferrule serve tools python``). Safe to use from several threads.

    Variables live from call to call. ``key`` is the server's API key, ``tool`` the name of its python tool,
    ``seconds`` the limit of a call that names none. While the server says that it is busy, a call is offered again
    for ``patience`` seconds. Every failure on the way is an observation of status ``error``
    whose ``data["reason"]`` is ``unreachable`` (the code did not run), ``no_answer`` (it may have run),
    ``bad_answer``, ``unauthorised``, or what the server says (``worker_died``, ``expired``, ...: the state is lost).
    """

    def __init__(
        self,
        url: str,
        *,
        key: str | None = None,
        seconds: float | None = None,
        tool: str = "python",
        patience: float = 30.0,
        episode: str = "",
    ) -> None:
        """Connect to nothing yet. Raises ``ValueError`` for a URL that is not http(s)."""
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"url is {url!r}; it should begin with http:// or https://")
        self.url = url.rstrip("/")
        self.tool = tool
        self.seconds = seconds
        self.patience = patience
        self.episode = episode or f"remote-{secrets.token_hex(8)}"
        self._key = key
        self._problem: Observation | None = None
        self._closed = False
        self._lock = threading.Lock()
        headers = {"authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.Client(base_url=self.url, headers=headers, trust_env=False)

    def run(self, code: str, seconds: float | None = None) -> Observation:
        """Run ``code`` there and return the outcome that the server reports. Never raises.

        Text, status, ``data`` and artifacts are those of the server's tool.
        """
        began = time.perf_counter()
        limit = self.seconds if seconds is None else seconds
        body: dict[str, Any] = {"name": self.tool, "arguments": {"code": code}}
        if limit is not None:
            body["seconds"] = limit
        with self._lock:
            if self._closed:
                return Observation("Error: the interpreter is closed", "error", data={"reason": "closed"})
            if self._problem is not None:
                return self._problem
            observation = self._post("act", body, (limit or 60.0) + _SLACK)
        took = time.perf_counter() - began
        return Observation(
            observation.text, observation.status, data=observation.data, artifacts=observation.artifacts, seconds=took
        )

    def fork(self) -> RemoteInterpreter:
        """Return an independent interpreter in the same state, branched on the server.

        When that fails, every call of the twin says why.
        """
        with self._lock:
            observation = self._problem or self._post("fork", {}, _SLACK)
            name = (
                observation.data.get("episode")
                if isinstance(observation.data, dict) and observation.status == "ok"
                else None
            )
            twin = RemoteInterpreter(
                self.url,
                key=self._key,
                seconds=self.seconds,
                tool=self.tool,
                patience=self.patience,
                episode=str(name or ""),
            )
            twin._closed = self._closed
            if name is None:
                status = observation.status if observation.status != "ok" else "error"
                twin._problem = Observation(
                    f"the branch could not be made: {observation.text}", status, data=observation.data
                )
        return twin

    def names(self) -> dict[str, str]:
        """Return the global variables, each with the name of its type; none when the server cannot be asked.

        They are read by running code in the interpreter, which counts as a call there.
        """
        observation = self.run(_NAMES)
        value = (
            observation.data.get("value") if isinstance(observation.data, dict) and observation.status == "ok" else None
        )
        try:
            kinds = ast.literal_eval(value) if isinstance(value, str) else {}
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            kinds = {}
        return {str(name): str(kind) for name, kind in kinds.items()} if isinstance(kinds, dict) else {}

    def close(self) -> None:
        """End the episode on the server where it can be reached; may be called twice."""
        with self._lock:
            if not self._closed and self._problem is None:
                with contextlib.suppress(httpx.HTTPError):
                    self._client.post(self._path("end"), timeout=5.0)
            self._closed = True
            self._client.close()

    def __enter__(self) -> RemoteInterpreter:
        """Use as a context manager: the episode ends with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _path(self, verb: str) -> str:
        return f"/episodes/{quote(self.episode, safe='')}/{verb}"

    def _post(self, verb: str, body: Mapping[str, Any], seconds: float) -> Observation:
        """Ask the server; offer the request again while it is busy, which it says before anything has run."""
        end = time.monotonic() + self.patience
        while True:
            try:
                response = self._client.post(self._path(verb), json=body, timeout=httpx.Timeout(seconds, connect=10.0))
            except (httpx.ConnectError, httpx.ConnectTimeout) as problem:
                return _failed("unreachable", f"the server {self.url} cannot be reached: {problem}")
            except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL) as problem:
                cause = str(problem) or type(problem).__name__
                return _failed("no_answer", f"the server {self.url} gave no answer ({cause}); the code may have run")
            observation = _read(response)
            reason = observation.data.get("reason") if isinstance(observation.data, dict) else None
            pause = _pause(response.headers.get("retry-after", ""))
            if response.status_code not in (429, 503) or reason not in _BUSY or time.monotonic() + pause > end:
                return observation
            time.sleep(pause)


def _pause(seconds: str) -> float:
    return min(max(float(seconds), 0.05), 10.0) if seconds.isdigit() else 1.0


def _failed(reason: str, text: str) -> Observation:
    return Observation(f"Error: {text}", "error", data={"reason": reason})


def _read(response: httpx.Response) -> Observation:
    """Return the observation of an answer; an answer without one becomes an error that says what it was."""
    if response.status_code in (401, 403):
        return _failed("unauthorised", f"{response.url.host} refused the API key (status {response.status_code})")
    try:
        record = response.json()
    except (ValueError, RecursionError):
        record = None
    try:
        # The server writes data for any client, without tags.
        return replace(read(Observation, {**record, "data": None}), data=record.get("data"))
    except (ValueError, TypeError):
        reason = str(record.get("error", "")) if isinstance(record, dict) else response.text[:200]
        return _failed("bad_answer", f"status {response.status_code} from {response.url.host}: {reason}")
