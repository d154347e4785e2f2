"""Serves function_app.py in the real azure-functions-runtime, in process."""

from devstack.host.app import Host
from devstack.host.errors import FunctionFailed, HostError, NotServed, StartError
from devstack.host.serve import serving

__all__ = ["FunctionFailed", "Host", "HostError", "NotServed", "StartError", "serving"]
