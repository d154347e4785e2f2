"""The Function App: every trigger of the relay, and nothing else."""

import azure.functions as func

from relay.triggers import blob, bundle, dataverse_event, fhir_event, fhir_hook, health, msind, poll, queues

app = func.FunctionApp()
for each in (bundle, blob, dataverse_event, fhir_event, fhir_hook, health, msind, poll, queues):
    app.register_functions(each.bp)
