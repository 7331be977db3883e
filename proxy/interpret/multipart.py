"""Forms (`multipart/form-data`): fields as text, files as where in the body they are.

Pure; must not know any provider.
"""

from __future__ import annotations

from email.message import Message
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_FIELD = 64 * 1024
"""Most bytes of one field that are kept."""

MAX_PARTS = 256


class File(NamedTuple):
    """A file in a form: what its part says it is, its bytes, and the first and last chunk of the body that hold it."""

    kind: str
    size: int
    first: int
    last: int


class Form:
    """Feed it a body's bytes with the number of the chunk they are of. `fields`: name -> text; `problem`: why it is not
    all."""

    def __init__(self, content_type: str) -> None:
        self.fields: dict[str, str] = {}
        self.files: list[File] = []
        self.problem: str | None = None
        self._name: list[bytes] = []
        self._value: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._said: dict[str, str] = {}  # of the part, by its Content-Disposition
        self._data: list[bytes] = []
        self._size = 0
        self._parts = 0
        self._chunk = self._first = 0
        self._parser: MultipartParser | None = None
        boundary = _parameters("content-type", content_type).get("boundary")
        try:
            if not boundary:
                raise FormParserError("it names no boundary")
            self._parser = MultipartParser(boundary.encode(), self._callbacks(), max_header_size=16384)
        except FormParserError as error:
            self._stop(error)

    def feed(self, chunk: int, data: bytes) -> None:
        """Take in bytes of the chunk with this number."""
        self._chunk = chunk
        if self._parser is None:
            return
        try:
            self._parser.write(data)
        except FormParserError as error:
            self._stop(error)

    def _stop(self, error: Exception) -> None:
        self._parser = None
        self.problem = f"the form cannot be read: {str(error)[:200]}"

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.append(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.append(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._told,
            "on_part_data": self._part_data,
            "on_part_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise FormParserError(f"it has more than {MAX_PARTS} parts")
        self._headers, self._said, self._data, self._size, self._first = {}, {}, [], 0, self._chunk

    def _header(self) -> None:
        name, value = (b"".join(each).decode("utf-8", "replace") for each in (self._name, self._value))
        self._headers[name.lower()] = value
        self._name, self._value = [], []

    def _told(self) -> None:
        self._said = _parameters("content-disposition", self._headers.get("content-disposition", ""))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if not self._size:
            self._first = self._chunk
        self._size += end - start
        if self._size <= MAX_FIELD and "filename" not in self._said:
            self._data.append(data[start:end])

    def _end(self) -> None:
        said = self._said
        if "filename" in said:
            kind = self._headers.get("content-type", "application/octet-stream").partition(";")[0].strip().lower()
            self.files.append(File(kind[:512], self._size, self._first, self._chunk))
        elif "name" in said and self._size <= MAX_FIELD:
            self.fields.setdefault(said["name"], b"".join(self._data).decode("utf-8", "replace"))


def _parameters(header: str, value: str) -> dict[str, str]:
    """The parameters of a header's value, such as `boundary`."""
    message = Message()
    message[header] = value[:4096].replace("\r", " ").replace("\n", " ")
    return {name.lower(): text for name, text in message.get_params(failobj=[], header=header)[1:]}
