"""The page docs/performance.md: each figure, its target and what it means."""

from __future__ import annotations

from collections.abc import Sequence

from figures import Figure

MEANINGS: dict[str, tuple[str, str]] = {
    "calls_per_bundle": (
        "HTTP calls for 100 new patients with 4 identifiers each",
        (
            "the inbound request, one read and one write of Dataverse, one batch of reads and one of PUTs on the FHIR server; "
            "the reference architecture makes 2N + 2 to 4N + 2, here {reference_least} to {reference_most}"
        ),
    ),
    "calls_per_bundle_trusted": (
        "the same with `RELAY_TRUST_SENT_BODIES=true`",
        "the sender forwards the server's own bodies, so they need not be read again",
    ),
    "cpu_parse": ("parse", "bytes to checked JSON: size, depth, strings, numbers kept exact"),
    "cpu_translate": (
        "translate",
        "resource to draft through the default Patient map ({columns} columns, {identifiers} identifiers)",
    ),
    "cpu_plan": ("plan", "drafts and what Dataverse has to operations in order, primary keys included"),
    "cpu_encode": ("encode", "operations to the text of a `$batch` with a change set per resource"),
    "cpu_locate": ("locate", "drafts to the queries of the one read, without their encoding"),
    "cpu_decode": ("decode", "the answer to the `$batch` back to one result per operation"),
    "cpu_merge": ("merge", "one identifier added to the resource's text, every other byte kept"),
    "cpu_translate_plan_encode": ("translate + plan + encode", "what a resource costs between the two wires"),
    "cpu_with_parse": ("parse + translate + plan + encode", "the same from the request's bytes on"),
    "path_plain": ("path of members and indexes", "`{path}`, compiled once"),
    "path_one_member": ("path of one member", "`{path}`"),
    "path_filtered": ("path with a filter of two equalities", "`{path}`"),
    "maps_translate": (
        "translate, mean over published resources",
        "{resources} resources of {types} types through the default maps; by type, in ms: {listed}",
    ),
    "expressions_relay": (
        "the relay's element paths",
        (
            "{expressions} expressions over {resources} published Patients, every value of each, compiled once, in one run with "
            "those below; all of them find the same values"
        ),
    ),
    "expressions_jsonpath_rfc9535": ("jsonpath-rfc9535", "{times_relay} times the relay's"),
    "expressions_python_jsonpath": ("python-jsonpath", "{times_relay} times the relay's"),
    "expressions_fhirpathpy": (
        "fhirpathpy",
        "{times_relay} times the relay's; the same expressions as FHIRPath, with its model of R4",
    ),
    "resources_per_second_validate_off": (
        "whole flow, `RELAY_VALIDATE=off`",
        (
            "bundles of {bundle} new patients, both servers in the same process on the same core; the relay's own share is "
            "{relay_cpu_ms_per_resource} ms of CPU a resource ({relay_alone_per_second} resources a second), the two "
            "emulated servers take {servers_cpu_ms_per_resource} ms"
        ),
    ),
    "resources_per_second_validate_warn": (
        "whole flow, `RELAY_VALIDATE=warn`",
        (
            "the same with each resource checked by fhir.resources; the relay's own share is {relay_cpu_ms_per_resource} ms "
            "({relay_alone_per_second} resources a second)"
        ),
    ),
    "peak_memory_largest_bundle": (
        "peak memory, largest Synthea bundle",
        (
            "{entries} entries, {created} of mapped types, {rows} rows, {calls} calls, {seconds} s; {before_mb} MB before "
            "the bundle came; the servers run in another process"
        ),
    ),
    "webhook_intake_in_process_p99": (
        "Dataverse webhook, in process, p99",
        (
            "the real function in the Functions runtime, event stored on disk before the answer; p50 {p50} ms, {events} events "
            "of {event_bytes} bytes"
        ),
    ),
    "webhook_intake_loopback_p99": (
        "Dataverse webhook, loopback HTTP, p99",
        "the same through a socket, client and host in one process; p50 {p50} ms",
    ),
    "cold_import_function_app": (
        "import `function_app`",
        "what indexing costs a fresh worker; best of fresh processes, median {median} ms",
    ),
    "cold_first_event": (
        "first event, cold",
        (
            "import what the webhook needs, read the settings, open the store, store one event; neither httpx nor msal is loaded; "
            "median {median} ms, CPU {cpu} ms"
        ),
    ),
    "cold_first_event_azure": (
        "first event, cold, storage account",
        (
            "the same with the event sent to a queue of Azurite: Microsoft's queue client and `requests` are imported for it, "
            "the clients of blobs and tables are not; median {median} ms, CPU {cpu} ms"
        ),
    ),
    "cold_import_azure_functions": ("import `azure.functions`", "the floor under both, median {median} ms"),
}

SECTIONS: dict[str, str] = {
    "calls": "Calls",
    "cpu": "CPU of one resource, by stage",
    "maps": "CPU of one resource, by map",
    "path": "Reading one element",
    "expressions": "Reading elements, beside other libraries",
    "resources": "Whole flow",
    "peak": "Memory",
    "webhook": "Webhook intake, warm",
    "cold": "Cold start",
}


def render(figures: Sequence[Figure]) -> str:
    """Return the page; a figure whose meaning is not written down is a KeyError."""
    box = next(each for each in figures if each.bench == "machine")
    size = f"{box.value} cores ({box.more['processor']}), {box.more['memory_gb']} GB, Python {box.more['python']}, {box.more['system']}"
    lines = [
        "# Performance",
        "",
        "Written by `bench/run.py --write docs/performance.md`; `make bench` prints the same figures as JSON lines.",
        "",
        f"Measured on: {size}.",
        "",
        "CPU figures are process time and the best of seven rounds (five by map, three beside other libraries), the whole flow",
        "the best of eight bundles, cold starts the best of nine processes: what the work costs, without what else the machine",
        "did.",
        "The two servers are the emulators of this repository, so the whole-flow figures say what the relay costs, not what",
        "Dataverse and a real FHIR server take. Nothing here was measured against an Azure deployment.",
    ]
    for prefix, title in SECTIONS.items():
        chosen = [each for each in figures if each.bench.split("_")[0] == prefix]
        if chosen:
            lines += ["", f"## {title}", "", "| what | figure | target | what it means |", "|---|---|---|---|"]
            lines += [_row(each) for each in chosen]
    return "\n".join([*lines, ""])


def _row(figure: Figure) -> str:
    what, meaning = MEANINGS[figure.bench]
    if "not_run" in figure.more:
        return f"| {what} | not measured | | {figure.more['not_run']} |"
    words = (
        what.format(**figure.more),
        f"{figure.value} {figure.unit}",
        _target(figure),
        meaning.format(**figure.more),
    )
    return f"| {' | '.join(words)} |"


def _target(figure: Figure) -> str:
    target = figure.more.get("target")
    if target is None or not isinstance(figure.value, int | float):
        return ""
    return f"≤ {target}, {'held' if figure.value <= target else 'missed'}"
