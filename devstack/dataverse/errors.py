"""Every way the Web API says no: one class per code, with its HTTP status and its text.

Codes and texts are Dataverse's own. `NotSupported` alone is the emulator's: it names what is not emulated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

HELP = "https://go.microsoft.com/fwlink/?linkid=2195293"


class DataverseError(Exception):
    """The root; `status` is the HTTP status, `code` the hexadecimal error code of the answer."""

    status = 400
    code = "0x80040216"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.headers: Mapping[str, str] = {}

    @property
    def document(self) -> Any:
        """The body of the answer."""
        return {"error": {"code": self.code, "message": self.message}}


class NotSupported(DataverseError):
    """The emulator does not do this; the message names the feature."""

    status = 501
    code = "0x80040800"

    def __init__(self, feature: str) -> None:
        super().__init__(f"The emulator does not support {feature}.")


class ObjectDoesNotExist(DataverseError):
    """No row has this id."""

    status = 404
    code = "0x80040217"

    def __init__(self, table: str, row: str) -> None:
        super().__init__(f"{table} With Id = {row} Does Not Exist")
        self.table, self.row = table, row


class RecordNotFoundByEntityKey(DataverseError):
    """No row has these alternate key values."""

    status = 404
    code = "0x80060891"

    def __init__(self, table: str) -> None:
        super().__init__(f"A record with the specified key values does not exist in {table} entity")
        self.table = table


class DuplicateRecord(DataverseError):
    """The primary key is taken, or `If-None-Match: *` met a row."""

    status = 412
    code = "0x80040237"

    def __init__(self) -> None:
        super().__init__("A record with matching key values already exists.")


class DuplicateRecordEntityKey(DataverseError):
    """Another row has the same values in the columns of an alternate key."""

    status = 412
    code = "0x80060892"

    def __init__(self, key: str, columns: str) -> None:
        super().__init__(
            f"Entity Key {key} violated. A record with the same value for {columns} already exists. A duplicate record "
            "cannot be created. Select one or more unique values and try again."
        )


class ConcurrencyVersionMismatch(DataverseError):
    """`If-Match` carries another version than the row."""

    status = 412
    code = "0x80060882"

    def __init__(self) -> None:
        super().__init__("The version of the existing record doesn't match the RowVersion property provided.")


class OptimisticConcurrencyNotEnabled(DataverseError):
    """`If-Match` with a version on a table that keeps none for this."""

    code = "0x8006088d"

    def __init__(self, table: str) -> None:
        super().__init__(
            f"Optimistic concurrency isn't enabled for entity type {table}. The IfVersionMatches value of "
            "ConcurrencyBehavior can only be used if optimistic concurrency is enabled."
        )


class StringTooLong(DataverseError):
    """A text is longer than its column."""

    code = "0x80044331"

    def __init__(self, table: str, column: str, limit: int) -> None:
        super().__init__(
            f"A validation error occurred.  The length of the '{column}' attribute of the '{table}' entity exceeded "
            f"the maximum allowed length of '{limit}'."
        )


class OutOfRange(DataverseError):
    """A number lies outside its column's range; whole numbers and others have codes of their own."""

    def __init__(self, table: str, column: str, value: object, limits: str, *, whole: bool) -> None:
        super().__init__(
            f"A validation error occurred. The value '{value}' of '{column}' on record of type '{table}' is outside "
            f"the valid range. Accepted Values: {limits}"
        )
        self.code = "0x8004432f" if whole else "0x80044330"


class OptionOutOfRange(DataverseError):
    """A choice column has no such option."""

    code = "0x8004431a"

    def __init__(self, table: str, column: str, value: object, options: Iterable[object]) -> None:
        super().__init__(
            f"A validation error occurred.  The value {value} of '{column}' on record of type '{table}' is outside the "
            f"valid range. Accepted Values: {','.join(map(str, options))}"
        )


class InvalidStatus(DataverseError):
    """The status reason does not belong to the state."""

    code = "0x80048408"

    def __init__(self, table: str, status: int, state: int, row: str) -> None:
        super().__init__(f"{status} is not a valid status code for state code {state} on {table} with Id {row}.")


class DateOutOfRange(DataverseError):
    """A date lies before 1753, which SQL cannot keep."""

    code = "0x80040239"

    def __init__(self, value: str) -> None:
        super().__init__(
            "DateTime is less than minumum value supported by CrmDateTime. "
            f"Actual value: {value}, Minimum value supported: 01/01/1753 00:00:00"
        )


class InvalidCharacter(DataverseError):
    """A text holds a character that XML cannot carry."""

    code = "0x80040278"

    def __init__(self, column: str, code_point: int) -> None:
        super().__init__(
            f"Invalid character in field '{column}': hexadecimal value 0x{code_point:02X}, is an invalid character."
        )


class InvalidPayload(DataverseError):
    """The body does not fit the table: unknown property, wrong JSON type, not JSON at all."""

    code = "0x80048d19"

    def __init__(self, entity_set: str, detail: str) -> None:
        super().__init__(
            f"Error identified in Payload provided by the user for Entity :'{entity_set}', For more information on "
            f"this error please follow this help link {HELP}  ---->  InnerException : "
            f"Microsoft.OData.ODataException: {detail}"
        )


class BadSyntax(DataverseError):
    """The URL or a query option cannot be read, or names something that is not there."""

    code = "0x80060888"


class UnknownSegment(BadSyntax):
    """The path names no entity set, property or operation."""

    status = 404

    def __init__(self, segment: str) -> None:
        super().__init__(f"Resource not found for the segment '{segment}'.")


class UnknownProperty(BadSyntax):
    """A query option names no property of the table."""

    def __init__(self, name: str, table: str) -> None:
        super().__init__(f"Could not find a property named '{name}' on type 'Microsoft.Dynamics.CRM.{table}'.")


class UndeclaredKey(BadSyntax):
    """The key in a URL is neither the primary key nor all the columns of one alternate key."""

    def __init__(self, table: str) -> None:
        resource = f"resource 'Microsoft.Dynamics.CRM.{table}'"
        super().__init__(
            f"The key in the request URI is not valid for {resource}. Ensure that the names and number of key "
            f"properties match the declared or alternate key properties for the {resource}."
        )


class DangerousKey(BadSyntax):
    """An alternate key value in a URL holds one of the characters that the web server refuses."""

    def __init__(self, character: str) -> None:
        super().__init__(f"A potentially dangerous Request.Path value was detected from the client ({character}).")


class UnknownAttribute(DataverseError):
    """A query function names no column; its PropertyName is a logical name, never a path or `_x_value`."""

    code = "0x80041103"

    def __init__(self, name: str, table: str) -> None:
        super().__init__(
            f"'{table}' entity doesn't contain attribute with Name = '{name}' and NameMapping = 'Logical'."
        )


class TooManyConditions(DataverseError):
    """A query holds more than 500 conditions."""

    code = "0x8004430c"

    def __init__(self) -> None:
        super().__init__("Number of conditions in query exceeded maximum limit.")


class KeyInBody(DataverseError):
    """A target of UpsertMultiple that is created names a key column in `@odata.id` and in its body.

    Reported of the real service; its text is not known, this one is ours.
    """

    def __init__(self) -> None:
        super().__init__("An unexpected error occurred: a key attribute is given in @odata.id and in the body.")


class ExtensionFailed(DataverseError):
    """A synchronous step failed, and with it the operation that it belongs to."""

    code = "0x80040265"


class NotAMember(DataverseError):
    """The user to act for is not there, or is disabled; the text is ours."""

    status = 403
    code = "0x80072560"

    def __init__(self) -> None:
        super().__init__("The user is not a member of the organization.")


class InvalidArgument(DataverseError):
    """A value is of the right type and still wrong."""

    code = "0x80040203"


class ChangeTrackingNotEnabled(DataverseError):
    """The table keeps no track of changes; the text is ours."""

    code = "0x80040203"

    def __init__(self, table: str) -> None:
        super().__init__(f"Change tracking is not enabled for entity '{table}'.")


class ExpiredVersionStamp(DataverseError):
    """A delta token is older than the tokens' life."""

    code = "0x80044352"

    def __init__(self) -> None:
        super().__init__("Version stamp associated with the client has expired. Please perform a full sync.")


class StillReferenced(DataverseError):
    """A row cannot be deleted while others need it."""

    code = "0x80040227"

    def __init__(self, table: str, by: str) -> None:
        super().__init__(f"The {table} component cannot be deleted because it is referenced by {by} components.")


class MethodNotAllowed(DataverseError):
    """The resource is there and has no such method."""

    status = 405
    code = "0x80060888"

    def __init__(self, method: str) -> None:
        super().__init__(f"The requested resource does not support http method '{method}'.")


class UrlTooLong(DataverseError):
    """A URL outside a batch exceeds the web server's limit."""

    status = 414
    code = "0x80060888"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The URL exceeds {limit} characters; send it inside a $batch.")
