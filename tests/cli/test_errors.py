"""What is said when there is no answer: why, and what to do."""

from __future__ import annotations

import socket
import threading

import grpc
import pytest
from support.decision_server import HOSTILE, DecisionServer
from support.envoy import free_port

from sentinel_ext.address import Address
from sentinel_ext.cli._durations import duration_s
from sentinel_ext.client import decisions
from sentinel_ext.client.decisions import MAX_DETAILS, DecisionClient


def test_nothing_listens(run):
    address = f"127.0.0.1:{free_port()}"

    for command in (("tenants",), ("watch",), ("top", "--once"), ("explain", "acme")):
        done = run(*command, "--address", address)

        assert 1 == done.code
        assert (
            f"sentinel-ext: nothing answers at {address} (connection refused): is `sentinel-ext serve` "
            "running? `--address` or DEBUG_GRPC_ADDRESS name another\n"
        ) == done.err
        assert "" == done.out


def test_no_socket_there(run, short_folder):
    done = run("tenants", "-a", f"unix://{short_folder}/none.sock")

    assert 1 == done.code
    assert "no such file" in done.err


def test_a_unix_socket_is_asked_like_a_port(run, short_folder):
    with DecisionServer(f"unix:{short_folder}/d.sock"):
        assert 0 == run("tenants", "-a", f"unix://{short_folder}/d.sock").code


@pytest.mark.parametrize(
    ("refusal", "code", "said"),
    [
        ((grpc.StatusCode.PERMISSION_DENIED, "not here"), 1, "ADMIN_ACTIONS=true (not here)"),
        ((grpc.StatusCode.UNIMPLEMENTED, ""), 1, "ask the one for people, DEBUG_GRPC_ADDRESS"),
        ((grpc.StatusCode.INVALID_ARGUMENT, "tenant: too long"), 2, "sentinel-ext: tenant: too long\n"),
        (
            (grpc.StatusCode.NOT_FOUND, "no upstream 'x'; known: a"),
            1,
            "sentinel-ext: no upstream 'x'; known: a\n",
        ),
        ((grpc.StatusCode.UNAVAILABLE, "draining"), 1, "is there and gives no answer (draining)"),
        ((grpc.StatusCode.INTERNAL, "{at}{details}"), 1, "answers INTERNAL: {at}{details}\n"),
    ],
    ids=lambda value: value[0].name if isinstance(value, tuple) else "",
)
def test_a_refusal_says_what_to_do(server, run, refusal, code, said):
    server.answers["ResetTenant"] = server.answers["WatchDecisions"] = refusal

    done = run("tenants", "reset", "acme")

    assert code == done.code
    assert said in done.err
    assert code == run("watch").code


def test_a_deadline_says_how_to_wait_longer(server, run):
    server.delay_s = 0.3

    done = run("tenants", "--timeout", "100ms")

    assert 1 == done.code
    assert "within 0.1 s" in done.err
    assert "`--timeout 30s` waits longer" in done.err
    assert 0 == run("tenants", "--timeout", "5s").code


def test_what_the_service_says_cannot_act_on_the_terminal_and_is_cut(server, run):
    server.answers["GetTenant"] = (grpc.StatusCode.INTERNAL, HOSTILE + "x" * 3000)

    err = run("tenants", "acme").err

    assert r"[red]x[/red]\x1b[2J\n\x7f\x9b\u202e\u2066evilxxx" in err
    assert len(err) < MAX_DETAILS + 100
    assert 1 == len(err.splitlines())


def test_something_else_listens_there(run):
    """An HTTP/1 port, such as the admin's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def answer() -> None:
            while True:
                try:
                    caller, _ = listener.accept()
                except OSError:
                    return
                caller.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                caller.close()

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        done = run("tenants", "-a", f"127.0.0.1:{port}", "--timeout", "2s")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)

    assert 1 == done.code
    assert "is it the gRPC port" in done.err


@pytest.mark.parametrize("address", ["nowhere", "host:0", "unix:relative", "::1:50052", "\x1b[2J:x"])
def test_an_address_that_is_none_is_a_wrong_argument(run, address):
    done = run("pressure", "--address", address)

    assert 2 == done.code
    assert "--address or DEBUG_GRPC_ADDRESS: got " in done.err
    assert "\x1b" not in done.err


def test_the_port_for_people_may_be_off(run, monkeypatch):
    monkeypatch.setenv("DEBUG_GRPC_ADDRESS", "off")

    done = run("pressure")

    assert 2 == done.code
    assert "DEBUG_GRPC_ADDRESS is off" in done.err


def test_without_a_word_settings_say_where(server, run, monkeypatch, tmp_path):
    """As `serve` reads them: .env, too, and the option wins."""
    (tmp_path / ".env").write_text(f"DEBUG_GRPC_ADDRESS={server.address}\n")
    monkeypatch.delenv("DEBUG_GRPC_ADDRESS")

    assert 0 == run("pressure").code
    assert 1 == run("pressure", "-a", f"127.0.0.1:{free_port()}").code
    monkeypatch.setenv("DEBUG_GRPC_ADDRESS", " ")
    assert 0 == run("pressure").code


def test_a_server_on_every_interface_is_asked_on_loopback(server, run):
    port = server.address.rpartition(":")[2]

    assert 0 == run("pressure", "-a", f"0.0.0.0:{port}").code


def test_an_answer_beyond_the_bound_is_refused(server, run, monkeypatch):
    monkeypatch.setattr(decisions, "_OPTIONS", (("grpc.max_receive_message_length", 1000),))
    server.answers["ListTenants"] = {"tenants": [{"tenant": "x" * 256}] * 5}

    done = run("tenants")

    assert 1 == done.code
    assert "RESOURCE_EXHAUSTED" in done.err


def test_a_list_of_a_thousand_is_shown(server, run):
    server.answers["ListTenants"] = {
        "tenants": [{"tenant": f"t{n}" + "x" * 250} for n in range(1000)],
        "total": 1000,
    }

    assert 1002 == len(run("tenants", "-n", "1000").out.splitlines())
    assert 2 == run("tenants", "-n", "1001").code


def test_what_is_put_around_the_channel_sees_every_question(server):
    """Where tracing goes."""
    seen = []

    class Noting(grpc.UnaryUnaryClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            seen.append(details.method)
            return continuation(details, request)

    def wrapped(channel):
        return grpc.intercept_channel(channel, Noting())

    with DecisionClient(Address.parse(server.address), 5, wrapped) as client:
        client.ask("GetPressure")

    assert ["/sentinel.v1.DecisionService/GetPressure"] == seen


@pytest.mark.parametrize(
    ("text", "value"), [("500ms", 0.5), ("2s", 2), ("1.5", 1.5), ("1m", 60), ("60m", 3600)]
)
def test_times(text, value):
    assert value == duration_s(text)


@pytest.mark.parametrize("text", ["", "0", "0ms", "-1s", "61m", "1h", "soon", "1e3", "nan", "9" * 400])
def test_no_times(text):
    with pytest.raises(ValueError, match="500ms, 2s or 1m"):
        duration_s(text)
