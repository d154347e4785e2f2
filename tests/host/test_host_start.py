"""Starting and stopping: readable errors, nothing left behind, one host after another."""

from __future__ import annotations

import asyncio
import importlib
import json.tool
import os
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from devstack.host import Host, HostError, NotServed, StartError, runtime
from devstack.host.__main__ import main
from devstack.host.settings import read_host_json, read_local_settings
from relay.store.local import LocalStore


@pytest.mark.parametrize(
    ("app", "message"),
    [
        ("bad_parameter", "cannot load the bad_one function: the following parameters are declared in Python"),
        ("bad_import", r"No module named 'no_such_package_anywhere'.*function_app\.py\", line 4"),
        ("doubled", "first have the same route 'same' for GET"),
    ],
)
async def test_one_bad_function_is_named(hosted: Any, app: str, message: str) -> None:
    """One bad function takes the whole app away, as in Azure, but here the error says which and why."""
    before = _process()
    with pytest.raises(StartError, match=message):
        async with hosted(app):
            pass
    assert _process() == before


async def test_a_folder_without_an_app_is_a_start_error(tmp_path: Path) -> None:
    """The error names the folder, or that nothing is declared."""
    store = LocalStore(tmp_path / "store")
    with pytest.raises(StartError, match=r"has no function_app\.py"):
        await Host(tmp_path, store=store).start()
    (tmp_path / "function_app.py").write_text("import azure.functions as func\napp = func.FunctionApp()\n")
    with pytest.raises(StartError, match="declares no functions"):
        await Host(tmp_path, store=store).start()
    await store.close()


async def test_a_stopped_host_leaves_the_process_as_it_was(hosted: Any) -> None:
    """Folder, import path, environment and modules are put back."""
    before = _process()
    async with hosted("http", settings={"RELAY_TEST_SETTING": "1"}) as up:
        assert os.environ["RELAY_TEST_SETTING"] == "1"
        assert Path.cwd() == up.host.root
        assert up.app.__file__ == str(up.host.root / "function_app.py")
    assert _process() == before


async def test_hosts_follow_one_another_with_fresh_modules(hosted: Any) -> None:
    """A second start imports the app anew; modules that keep its state are hidden meanwhile and put back."""
    kept = json.tool
    apps = []
    for app in ("http", "queue"):
        async with hosted(app, settings={"INBOUND": "inbound"}, fresh=("json.tool",)) as up:
            apps.append(up.app)
            assert "json.tool" not in sys.modules
    assert apps[0] is not apps[1]
    assert sys.modules["json.tool"] is kept
    assert json.tool is kept


async def test_a_hidden_module_is_not_found_through_its_package(hosted: Any) -> None:
    """`from package import module` finds no module that a host has hidden."""
    kept = json.tool
    async with hosted("http", fresh=("json.tool",)):
        assert not hasattr(json, "tool")
        assert importlib.import_module("json.tool") is not kept
    assert json.tool is kept


async def test_two_hosts_side_by_side_do_not_share_functions(tmp_path: Path) -> None:
    """Each host has its own copy of the runtime, so that a function's name is its own."""
    store = LocalStore(tmp_path / "store")
    hosts = [Host(_little_app(tmp_path / name, name), store=store) for name in ("one", "two")]
    try:
        for host in hosts:
            await host.start()
        answers = []
        for host in hosts:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(host.asgi), base_url="http://x") as client:
                answers.append((await client.get("/api/who")).text)
        assert answers == ["one", "two"]
    finally:
        for host in reversed(hosts):
            await host.stop()
        await store.close()


async def test_the_environment_wins_over_local_settings(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values of local.settings.json are set unless the environment has them, as with Core Tools; ours win over both."""
    monkeypatch.setenv("RELAY_TEST_ENV", "environment")
    values = '{"IsEncrypted": false, "Values": {"RELAY_TEST_ENV": "file", "RELAY_TEST_FILE": "file", "RELAY_TEST_OWN": "file"}}'
    async with hosted("http", local_settings=values, settings={"RELAY_TEST_OWN": "own"}):
        found = [os.environ[f"RELAY_TEST_{name}"] for name in ("ENV", "FILE", "OWN")]
        assert found == ["environment", "file", "own"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"IsEncrypted": true}', "IsEncrypted"),
        ('{"Values": {"A": 1}}', "Values.A is not a string"),
        ('{"Values": {"FUNCTIONS_WORKER_RUNTIME": "node"}}', "FUNCTIONS_WORKER_RUNTIME"),
        ('{"Host": {"CORS": "*"}}', "Host is not served"),
        ("[]", "not a JSON object"),
        ("{", r"local\.settings\.json"),
    ],
)
def test_local_settings_that_cannot_be_used_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error names the file and the entry."""
    (tmp_path / "local.settings.json").write_text(text)
    with pytest.raises(StartError, match=message):
        read_local_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"extensions": {"queues": {"batchSize": 33}}}', "batchSize is 33 .valid: 1 to 32"),
        ('{"extensions": {"queues": {"batchsize": 1}}}', "queues.batchsize is not served"),
        ('{"extensions": {"queues": {"visibilityTimeout": "30s"}}}', "visibilityTimeout is '30s'"),
        ('{"extensions": {"queues": {"messageEncoding": "utf8"}}}', "messageEncoding"),
        ('{"extensions": {"http": {"hsts": {}}}}', "http.hsts is not served"),
        ('{"functionTimeout": "00:10:00"}', "functionTimeout"),
        ('{"functionTimeout": "-1"}', "functionTimeout"),
        ('{"concurrency": {"dynamicConcurrencyEnabled": true}}', "concurrency"),
    ],
)
def test_a_host_json_that_is_not_served_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error names the key and its valid values."""
    (tmp_path / "host.json").write_text(text)
    with pytest.raises(StartError, match=message):
        read_host_json(tmp_path)


async def test_what_is_not_served_is_indexed_and_refused_by_name(hosted: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The app starts with a warning for each; running one is 501 and names what is missing; the others work."""
    async with hosted("unserved") as up:
        missing = {each.name: each.unserved for each in up.host.functions if each.unserved}
        assert {name: text.partition(" is not")[0] for name, text in missing.items()} == {
            "bus": "serviceBusTrigger",
            "saved": "output binding blob",
            "insistent": "a retry policy on a timer",
        }
        for name, text in missing.items():
            assert f"{name} is indexed but will not run: {text}" in caplog.text
            with pytest.raises(NotServed, match=name):
                await up.host.invoke(name)
            answer = await up.client.post(f"/admin/functions/{name}")
            assert (answer.status_code, answer.text) == (501, f"{name}: {text}")
        answer = await up.client.get("/api/saved")
        assert (answer.status_code, answer.text) == (501, f"saved: {missing['saved']}")
        assert (await up.client.post("/runtime/webhooks/durabletask")).status_code == 501
        assert (await up.client.get("/api/fine")).text == "fine"


async def test_the_admin_list_names_bindings(hosted: Any) -> None:
    """`GET /admin/functions` lists what was indexed, `GET …/{name}` one of them."""
    async with hosted("http") as up:
        listed = (await up.client.get("/admin/functions")).json()
        item = next(each for each in listed if each["name"] == "item")
        assert item["config"]["bindings"][0]["route"] == "item/{id}"
        assert (await up.client.get("/admin/functions/item")).json() == item
        assert (await up.client.post("/admin/functions/item")).status_code == 400
        described = next(each for each in up.host.functions if each.name == "item")
        assert (described.route, described.methods) == ("item/{id}", ("GET", "DELETE"))
        assert (described.kind, described.auth_level) == ("httpTrigger", "anonymous")


async def test_an_untested_runtime_is_refused(hosted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new version of the runtime is a change that tests have to have seen."""
    monkeypatch.setattr(runtime, "TESTED", ("0.0.1",))
    with pytest.raises(StartError, match=r"azure-functions-runtime 1\.3\.0 is untested here; install one of 0\.0\.1"):
        async with hosted("http"):
            pass


async def test_misuse_of_the_host_is_named(hosted: Any, tmp_path: Path) -> None:
    """A host that is not started, started twice or stepped while it polls says so."""
    store = LocalStore(tmp_path / "other")
    host = Host(tmp_path, store=store)
    with pytest.raises(HostError, match="not started"):
        _ = host.asgi
    async with hosted("http", polling=True) as up:
        with pytest.raises(HostError, match="started already"):
            await up.host.start()
        with pytest.raises(HostError, match="polling=False"):
            await up.host.step()
        with pytest.raises(HostError, match="call its route"):
            await up.host.invoke("item")
    async with hosted("http") as up:
        with pytest.raises(HostError, match="move the clock"):
            await up.host.idle(delayed=True)
    await host.stop()
    await store.close()


@pytest.mark.parametrize(
    ("route", "message"),
    [
        ("a/{id:regex(x)}", "constraint"),
        ("a/{*rest}/b", "can only stand at the end"),
        ("a/{id?}/b", "can only stand at the end"),
        ("a/{id", "cannot read"),
        ("a/{id:int:long}", "only one constraint"),
    ],
)
async def test_a_route_that_is_not_served_is_named(tmp_path: Path, route: str, message: str) -> None:
    """The error names the function and the part of its route."""
    (tmp_path / "function_app.py").write_text(
        "import azure.functions as func\napp = func.FunctionApp()\n"
        f"@app.route(route={route!r})\nasync def odd(req: func.HttpRequest) -> str:\n    return ''\n"
    )
    store = LocalStore(tmp_path / "store")
    with pytest.raises(StartError, match=f"odd: route .*{message}"):
        await Host(tmp_path, store=store).start()
    await store.close()


async def test_the_command_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """`python -m devstack.host` prints what it serves, answers, and ends with 0 on SIGTERM."""
    (tmp_path / "function_app.py").write_text((Path(__file__).parent / "apps/levels/function_app.py").read_text())
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "devstack.host", "--root", str(tmp_path), "--port", "0", "--keys", "host=k"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    lines = [(await process.stdout.readline()).decode() for _ in range(5)]
    process.terminate()
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    assert "  keyed: httpTrigger keyed\n" in lines
    assert lines[-1].startswith("listening on http://127.0.0.1:")
    assert str(tmp_path / ".relay") in lines[-1]


def test_the_command_says_why_it_cannot_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A start error is one line and exit code 1."""
    assert main(["--root", str(tmp_path), "--port", "0"]) == 1
    assert capsys.readouterr().err == f"error: {tmp_path} has no function_app.py\n"


@pytest.mark.parametrize("keys", ["host", "=key", "host="])
def test_the_command_refuses_wrong_use(keys: str) -> None:
    """A key without a name, or a name without a key, is wrong use: exit code 2."""
    with pytest.raises(SystemExit) as exit_:
        main(["--keys", keys])
    assert exit_.value.code == 2


def test_the_command_stops_for_a_signal_and_uses_the_folder_of_the_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGTERM ends it with 0, whoever sends it; the store is where `AzureWebJobsStorage` says, seen from the root."""
    monkeypatch.delenv("AzureWebJobsStorage", raising=False)
    (tmp_path / "local.settings.json").write_text('{"Values": {"AzureWebJobsStorage": "file:here"}}')
    (tmp_path / "function_app.py").write_text(
        "import os, signal\nimport azure.functions as func\napp = func.FunctionApp()\n"
        "@app.timer_trigger(arg_name='t', schedule='0 0 0 1 1 *', run_on_startup=True)\n"
        "async def end(t: func.TimerRequest) -> None:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert main(["--root", str(tmp_path), "--port", "0", "--keys", "master=m"]) == 0
    assert f"store in {tmp_path / 'here'}" in capsys.readouterr().out
    assert (tmp_path / "here" / "relay.sqlite").exists()


async def test_events_that_are_no_requests_are_answered(hosted: Any) -> None:
    """Lifespan events are acknowledged, a websocket is closed."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message["type"])

    async with hosted("http") as up:
        incoming = iter(["lifespan.startup", "lifespan.shutdown"])

        async def receive() -> Any:
            return {"type": next(incoming)}

        await up.host.asgi({"type": "lifespan"}, receive, send)
        await up.host.asgi({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


def _little_app(root: Path, answer: str) -> Path:
    root.mkdir()
    (root / "function_app.py").write_text(
        "import azure.functions as func\n"
        "app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)\n"
        "@app.route(route='who')\n"
        f"async def who(req: func.HttpRequest) -> str:\n    return {answer!r}\n"
    )
    return root


def _process() -> tuple[Any, ...]:
    modules = {name for name in sys.modules if name.partition(".")[0] in {"function_app", "azure_functions_runtime"}}
    return Path.cwd(), list(sys.path), dict(os.environ), modules
