"""Imports what is not there."""

import azure.functions as func
import no_such_package_anywhere  # type: ignore[import-not-found]  # that is the point

app = func.FunctionApp()
app.register_functions(no_such_package_anywhere.bp)
