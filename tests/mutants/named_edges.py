"""Named mutants of the edges: the daemon, the client and the endpoint, watching, redaction."""

from __future__ import annotations

from mutants.named import HOSTILE, Named

EDGES: list[Named] = [
    Named(
        "a project that was learned counts as a tool's move",
        "daemon/resources.py",
        "find_roots(self.config, self.environ) != self.found",
        "find_roots(self.config, self.environ) != self.places",
        suites=(["tests/unit/ingest/test_projects.py"],),
    ),
    Named(
        "any change wakes the capture",
        "daemon/capture_loop.py",
        "if locations := self.scanner.locate(path):",
        "locations = self.scanner.locate(path)\n        self.queue.add([path])\n        if locations:",
        (["tests/unit/daemon/test_loop_failures.py"],),
    ),
    Named(
        "a connection that comes after the deadline lives on",
        "endpoint/deadline.py",
        "            if self._aborted:\n                self._shut_down()\n",
        "",
        (["tests/unit/endpoint/test_deadline.py"],),
    ),
    Named(
        "what could not be read is not tried again",
        "daemon/capture_loop.py",
        "            self.scanner.forget(entry.path)  # the next scan",
        "            pass  # the next scan",
        (["tests/process/test_limits.py", "-k", "can_not_be_read"],),
    ),
    Named(
        "redirects are followed",
        "endpoint/client.py",
        "            response = self._transport.handle_request(request)\n",
        "            response = self._transport.handle_request(request)\n"
        "            if 'location' in response.headers:\n"
        "                request = httpx.Request('GET', response.headers['location'], headers=self._headers)\n"
        "                response = self._transport.handle_request(request)\n",
        ([HOSTILE, "-k", "redirect"],),
    ),
    Named(
        "any dictionary is the one that was meant",
        "endpoint/server/dictionaries.py",
        "if known != digest:",
        "if known is None:",
        (["tests/endpoint/test_dictionaries.py"],),
    ),
    Named(
        "a lost answer leaves the dictionary as it was",
        "endpoint/dictionary.py",
        'taken, self._dictionary = self._dictionary, b""',
        "taken = self._dictionary",
        (["tests/integration/test_dictionary.py"],),
    ),
    Named(
        "whoever refuses a dictionary refuses the push",
        "endpoint/compression.py",
        "if response.status_code == TOO_LARGE or is_transient(response.status_code):",
        "if response.status_code != 200:",
        (["tests/integration/test_dictionary.py"],),
    ),
    Named(
        "an answer need not be to what was asked",
        "endpoint/client.py",
        "if answer.batch != batch or len(answer.results) != len(pushed):",
        "if len(answer.results) != len(pushed) and False:",
        ([HOSTILE, "-k", "bad_answer"],),
    ),
    Named(
        "a request may take for ever",
        "endpoint/transport.py",
        "        self._connection.reset()\n        self._timer.arm(deadline)\n",
        "",
        ([HOSTILE, "-k", "drips"],),
    ),
    Named(
        "an answer may be of any size",
        "endpoint/transport.py",
        "if len(content) > ANSWER_CAP:",
        "if False:",
        ([HOSTILE, "-k", "bad_answer"],),
    ),
    Named(
        "marks of several records move to the wrong places",
        "redact/redactor.py",
        "shift, last = low - last - 1, last + 1 + high - low",
        "shift, last = low - last - 1, last - 1 + high - low",
        (["tests/unit/redact/test_redactor.py", "-k", "several_records or marks_in_windows"],),
    ),
    Named(
        "the token stays readable in an error",
        "endpoint/client.py",
        'text = text.replace(self._token, "***")',
        "pass",
        (["tests/endpoint/test_client_answers.py", "-k", "token_is_never_quoted"],),
    ),
    Named(
        "an error of the endpoint's own makes it another endpoint",
        "endpoint/answers.py",
        "return status in (408, 425, 429) or (status >= 500 and status != LOGIN_REQUIRED)",
        "return status in (408, 425, 429) or (status > 500 and status != LOGIN_REQUIRED)",
        (["tests/endpoint/test_client_answers.py", "-k", "has_its_kind"],),
    ),
    Named(
        "a body that is too slow is called malformed",
        "endpoint/server/body.py",
        'raise HttpError(408, "too-slow", detail) from error',
        'raise HttpError(400, "malformed", detail) from error',
        (["tests/endpoint/test_bodies.py", "-k", "does_not_arrive"],),
    ),
]
