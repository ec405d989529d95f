"""Ask a language model: any server that speaks the OpenAI chat protocol, or a Hugging Face model on this machine.

Whatever a server does, the caller gets a text or an :class:`EndpointError` with a short reason; what a server sent is
never repeated in a message, since it may hold the key or anything else.
"""

import http.client
import json
import os
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from salience.core.errors import ConfigError, MissingExtraError, SalienceError
from salience.core.extras import require

TEMPERATURE, MAX_TOKENS = 0.5, 300  # as published
AGAIN = frozenset({408, 429, 500, 502, 503, 504})  # statuses after which another try may help
HOPELESS = frozenset({401, 403, 404, 405, 410})  # after which every further question fails as well
LONGEST_WAIT = 30.0  # seconds between two tries, whatever the server asks for
CHUNK = 65536


class EndpointError(SalienceError):
    """A language model gave no usable answer.

    Attributes:
        reason: in a few words, for counting: ``"status 429"``, ``"timeout"``, ``"not JSON"``.
        again: whether another try may help.
        hopeless: whether every further question would fail as well.
    """

    default_code = "SAL-W001"

    def __init__(
        self, reason: str, *, again: bool = False, hopeless: bool = False, wait: float = 0.0
    ) -> None:
        self.reason, self.again, self.hopeless, self.wait = reason, again, hopeless, wait
        super().__init__("The language model gave no answer", reason, "The template stands in its place.")


@dataclass(frozen=True)
class Reply:
    """An answer, and whether it ends where the model wanted it to end."""

    text: str
    whole: bool = True


class Endpoint(Protocol):
    """Anything that answers one question."""

    def ask(self, prompt: str, *, seed: int = 0) -> Reply:
        """Return the answer.

        Raises:
            EndpointError: there is none.
        """


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would take question and key to another place than the one that was named."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


@dataclass(frozen=True)
class ChatEndpoint:
    """A server of ``POST {base_url}/chat/completions``, as OpenAI, vLLM, llama.cpp and Ollama offer it.

    Args:
        base_url: address up to and with the version, such as ``"http://127.0.0.1:8000/v1"``.
        model: name of the model on that server.
        key_env: environment variable that holds the key; none is sent without it. It is read for each question, and
            never stored, shown or written.
        temperature: as published.
        max_tokens: longest answer, as published.
        timeout: seconds for one try, from connecting to the last byte.
        tries: how often a question is sent when the server is busy, broken, or drops the connection.
        backoff: seconds before the second try, doubled for each further one; a server's ``Retry-After`` is
            respected up to half a minute.
        largest: bytes of an answer that are read at most.

    Raises:
        ConfigError: the address is none, the variable is not set, or a key would travel unencrypted to another machine.
    """

    base_url: str
    model: str
    key_env: str = ""
    temperature: float = TEMPERATURE
    max_tokens: int = MAX_TOKENS
    timeout: float = 60.0
    tries: int = 3
    backoff: float = 0.5
    largest: int = 2**20
    local: bool = field(init=False, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ConfigError(
                "This is no address of a server",
                parts.hostname or "It has no host.",
                "Give one such as http://127.0.0.1:8000/v1, with the key in an environment variable.",
            )
        object.__setattr__(self, "local", _is_loopback(parts.hostname))
        if self.key_env and parts.scheme == "http" and not self.local:
            raise ConfigError(
                "A key would travel unencrypted", f"To {parts.hostname}.", "Use https, or no key_env."
            )
        if self.key_env and not os.environ.get(self.key_env):
            raise ConfigError(
                "The key is not set", f"Variable {self.key_env!r}.", "Set it, or leave out key_env."
            )
        if self.tries < 1 or not self.timeout > 0:
            raise ConfigError(
                "An endpoint needs at least one try and some time",
                f"tries={self.tries}, timeout={self.timeout}",
                "Give tries=1 or more and a timeout above zero.",
            )

    def ask(self, prompt: str, *, seed: int = 0) -> Reply:
        """Return the answer to one question, sent again while that may help.

        Raises:
            EndpointError: no try gave an answer.
        """
        for number in range(1, self.tries + 1):
            try:
                return _reply(self._post(prompt, seed))
            except EndpointError as error:
                if not error.again or number == self.tries:
                    raise
                time.sleep(min(max(error.wait, self.backoff * 2 ** (number - 1)), LONGEST_WAIT))
        raise AssertionError("unreachable: the last try returns or raises")

    def _request(self, prompt: str, seed: int) -> urllib.request.Request:
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "top_p": 1,
            "seed": seed,
            "stream": False,
        }
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "salience"}
        if self.key_env:
            headers["Authorization"] = f"Bearer {os.environ.get(self.key_env, '')}"
        data = json.dumps(body).encode("utf-8", "replace")
        return urllib.request.Request(f"{self.base_url.rstrip('/')}/chat/completions", data, headers)

    def _post(self, prompt: str, seed: int) -> bytes:
        proxies = [urllib.request.ProxyHandler({})] if self.local else []
        opener, deadline = urllib.request.build_opener(_NoRedirect, *proxies), time.monotonic() + self.timeout
        try:
            with opener.open(self._request(prompt, seed), timeout=self.timeout) as response:
                return self._body(response, deadline)
        except urllib.error.HTTPError as error:
            error.close()
            raise _status(error) from None
        except TimeoutError:
            raise EndpointError("timeout") from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise EndpointError("timeout") from None
            refused = isinstance(error.reason, ConnectionRefusedError)
            raise EndpointError("no connection", again=not refused, hopeless=refused) from None
        except (http.client.HTTPException, OSError):
            raise EndpointError("broken connection", again=True) from None

    def _body(self, response: Any, deadline: float) -> bytes:
        """Read an answer within the time and size that are allowed."""
        kind = response.headers.get_content_type()
        if kind != "application/json" and not kind.endswith("+json"):
            raise EndpointError("not JSON by its content type")
        announced, parts, size = response.length, [], 0
        while chunk := response.read1(CHUNK):
            size += len(chunk)
            if size > self.largest:
                raise EndpointError("too large")
            if time.monotonic() > deadline:
                raise EndpointError("timeout")
            parts.append(chunk)
        if announced is not None and size < announced:  # read1 does not report a body that ends early
            raise EndpointError("broken connection", again=True)
        return b"".join(parts)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _status(error: urllib.error.HTTPError) -> EndpointError:
    if 300 <= error.code < 400:
        return EndpointError("redirect", hopeless=True)
    asked = error.headers.get("Retry-After", "") if error.headers else ""
    return EndpointError(
        f"status {error.code}",
        again=error.code in AGAIN,
        hopeless=error.code in HOPELESS,
        wait=float(asked) if asked.isascii() and asked.isdigit() else 0.0,
    )


def _reply(body: bytes) -> Reply:
    try:
        answer = json.loads(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise EndpointError("not UTF-8") from None
    except (ValueError, RecursionError):
        raise EndpointError("not JSON") from None
    try:
        choice = answer["choices"][0]
        text = choice["message"]["content"]
    except (KeyError, IndexError, TypeError):
        raise EndpointError("not the protocol") from None
    if not isinstance(text, str):
        raise EndpointError("not the protocol")
    return Reply(text, choice.get("finish_reason") != "length")


class LocalModel:
    """A chat model of the transformers library, from a folder on this machine; nothing is downloaded or unpickled.

    Args:
        folder: where configuration, tokenizer and safetensors weights are; or the folder of a ``.gguf`` file.
        gguf: name of that file; it needs the package gguf.
        temperature: as published; 0 takes the likeliest token each time.
        max_tokens: longest answer, as published.

    Raises:
        MissingExtraError: transformers, or gguf, is not installed.
        ConfigError: the folder holds no model, or one without a chat template.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        gguf: str = "",
        temperature: float = TEMPERATURE,
        max_tokens: int = MAX_TOKENS,
    ) -> None:
        transformers = require("transformers")
        self.temperature, self.max_tokens = temperature, max_tokens
        options = {"local_files_only": True, **({"gguf_file": gguf} if gguf else {})}
        safe = {} if gguf else {"use_safetensors": True}
        try:
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(
                str(folder), dtype="float32", **options, **safe
            )
        except ImportError as error:
            raise MissingExtraError(
                "The model's file cannot be read", str(error), "Run: pip install gguf"
            ) from None
        except (OSError, ValueError) as error:
            raise ConfigError(
                "The folder holds no chat model", str(error), "Give the folder of one."
            ) from None
        if not self.tokenizer.chat_template:
            raise ConfigError("The model is no chat model", str(folder), "Give one with a chat template.")
        self.model = model.eval()

    def ask(self, prompt: str, *, seed: int = 0) -> Reply:
        """Return the model's answer; the same seed gives the same answer, and torch's own random state stays."""
        import torch

        messages = [{"role": "user", "content": prompt}]
        inputs = self.tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        sampling = {"do_sample": True, "temperature": self.temperature, "top_p": 1.0, "top_k": 0}
        if self.temperature == 0:
            sampling = {"do_sample": False}
        with torch.random.fork_rng(), torch.inference_mode():
            torch.manual_seed(seed)
            ids = self.model.generate(
                **inputs, max_new_tokens=self.max_tokens, pad_token_id=self.tokenizer.eos_token_id, **sampling
            )
        new = ids[0, inputs["input_ids"].shape[1] :]
        text = self.tokenizer.decode(new, skip_special_tokens=True)
        return Reply(text, len(new) < self.max_tokens)
