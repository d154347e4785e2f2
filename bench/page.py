"""The page docs/performance.md: each figure, its target and what it means."""

from __future__ import annotations

from collections.abc import Sequence

from figures import Figure

_COST = "{dataverse_calls} calls to Dataverse, {fhir_calls} to FHIR, {cpu_seconds} s of CPU and {peak_mb} MB in the client's process"
_FORMS: dict[str, tuple[str, str]] = {
    "relay_auto": (
        "the relay, `RELAY_WRITE=auto`",
        "the whole job: read, rows, identifier rows, write-back; rows alone {dataverse_seconds} s",
    ),
    "relay_fewest_calls": (
        "the relay, `RELAY_WRITE=fewest-calls`",
        "the whole job in the fewest calls, {times_relay} times `auto`",
    ),
    "sequence": (
        "one call per row, one after the other",
        "the whole job, {times_relay} times the relay's (wanted: at least 15)",
    ),
    "sdk_each": (
        "the official SDK, one upsert after the other",
        "the rows alone, {times_relay} times the relay's (wanted: at least 5)",
    ),
    "sdk_at_once": (
        "the official SDK, upserts eight at once",
        "the rows alone, {times_relay} times the relay's, which reads first and so knows every row's GUID",
    ),
    "sdk_bulk": (
        "the official SDK, one UpsertMultiple a table",
        "the rows alone, {times_relay} times the relay's (wanted: at least 1); it returns no GUIDs",
    ),
    "sdk_bulk_at_once": (
        "the official SDK, UpsertMultiple in eight parts at once",
        "the rows alone, {times_relay} times the relay's; the parts are cut by hand, and nothing is known of the rows afterwards",
    ),
}

MEANINGS: dict[str, tuple[str, str]] = {
    "calls_per_bundle": (
        "HTTP calls for 100 new patients with 4 identifiers each",
        (
            "the inbound request, one read and one write of Dataverse, one batch of reads and one of PUTs on the FHIR server; "
            "the reference architecture makes 2N + 2 to 4N + 2, here {reference_least} to {reference_most}. A new process asks the "
            "FHIR server once which kind it is, not counted here"
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
    **{
        f"{name}_{form}": (what, f"{meaning}; {_COST}")
        for name, forms in (("throughput", _FORMS), ("unslowed", _FORMS))
        for form, (what, meaning) in forms.items()
    },
    "throughput_relay_auto": (
        _FORMS["relay_auto"][0],
        f"the least that the model allows is {{least}} s, this is {{of_least}} times that; rows alone {{dataverse_seconds}} s; {_COST}",
    ),
    "threshold_fewest_calls": ("one batch of change sets", "seconds for {sizes} rows, the read before them included"),
    "threshold_bulk": ("bulk calls, side by side", "the same rows; `RELAY_BULK_FROM` is 100"),
    "peak_memory_largest_bundle": (
        "peak memory, largest Synthea bundle",
        (
            "{entries} entries, {created} of mapped types, {rows} rows, {calls} calls, {seconds} s; {before_mb} MB before "
            "the bundle came; the servers run in another process"
        ),
    ),
    "peak_memory_of_1_at_once": (
        "peak memory, one bundle of 700 new patients",
        "{body_mb} MB of JSON, {seconds} s; {before_mb} MB before it came",
    ),
    "peak_memory_of_10_at_once": (
        "peak memory, ten such bundles at once",
        (
            "{times_one} times that of one, with `RELAY_WORK_BYTES` at {room_mib} MiB: eight of them wait at the gate; their bodies, as an "
            "HTTP host holds them, are in it; {seconds} s"
        ),
    ),
    "peak_memory_of_24_at_once": (
        "peak memory, 24 such bundles at once",
        "as much in work as goes in by default, `RELAY_WORK_BYTES` at {room_mib} MiB; {times_one} times that of one; {seconds} s",
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
    "told_together": (
        "100 new patients, each told of by a message of its own",
        (
            "{side_by_side} messages side by side; those that wait at the same time are carried out as one bundle; {fhir} calls to "
            "the FHIR server, {seconds} s"
        ),
    ),
    "told_alone": (
        "the same, each message carried out alone",
        "{fhir} calls to the FHIR server, {seconds} s",
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
    "throughput": "100 new patients under a model of latency, beside other ways",
    "threshold": "When bulk calls begin to pay, under the same model",
    "unslowed": "The same 100 patients without latency",
    "told": "Changes that are told of one by one, under the same model",
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
        "",
        "The model of latency: Dataverse takes 50 ms a call, on top 40 ms an operation, which run one after the other, or 10 ms a",
        "row of a bulk action, and recommends eight requests at once; the FHIR server takes 50 ms a call and 5 ms an entry, one",
        "batch at a time. Each way to write runs in a process of its own, over loopback. The official SDK is",
        "`PowerPlatform-Dataverse-Client` 1.1.0; it is given the same rows and the alternate keys it needs.",
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
