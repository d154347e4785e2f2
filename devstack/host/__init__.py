"""Serves function_app.py in the real azure-functions-runtime, in process."""
