# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, cdivision=True
# cython: embedsignature=True, embedsignature.format=python
"""HTTP/1.1 responses out of bytes: llhttp, and the checks that llhttp leaves to its caller.

llhttp reads header sections, chunk lines and trailer sections. Everything else is decided here, once: what a
response is framed by (RFC 9112 section 6.3), whether its connection persists (section 9.3), how large each part may
be. Bodies with a length, and those that end with the connection, never pass through llhttp: their bytes are counted
and handed on.

There are no sockets here, no content codings, and no import of httpio: the classes to instantiate and to raise are
handed in.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_DecodeLatin1
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from llhttp cimport *

cdef extern from "Python.h":
    int _PyBytes_Resize(PyObject** string, Py_ssize_t size) except -1
    PyObject* PyBytes_New "PyBytes_FromStringAndSize"(const char* data, Py_ssize_t size) except NULL
    char* PyBytes_Data "PyBytes_AS_STRING"(PyObject* string)

cdef extern from *:
    """
    #define httpio_new(cls, nothing) (((PyTypeObject*)(cls))->tp_new((PyTypeObject*)(cls), nothing, NULL))
    """
    object httpio_new(object cls, object nothing)    # without the attribute look-up that cls.__new__ costs

cdef enum:
    BUFFER_SIZE = 131072      # of the receive buffer
    DIRECT_SIZE = 65536       # most bytes received at once straight into a body
    FIRST_BODY = 1048576      # most bytes set aside for a body on its Content-Length's word alone
    MOST_FIELDS = 1000000     # that a limit may allow
    CONTEXT = 32              # bytes shown on each side of an error

cdef enum State:
    HEAD, LENGTH, CHUNKED, UNTIL_CLOSE, UNFRAMED, TUNNEL, ENDED, BROKEN

cdef enum Fact:
    PLAIN = 0, IS_HEAD = 1, IS_CONNECT = 2, ASKS_UPGRADE = 4

cdef enum End:
    NOT_YET, NO_BODY, BY_LENGTH, BY_LAST_CHUNK, BY_CLOSE

cdef enum LenientFlag:
    LENIENT_LF = 1, LENIENT_CTL = 2, LENIENT_CHUNK_SPACE = 4, LENIENT_UNTIL_CLOSE = 8

cdef enum Problem:
    NONE, TOO_MANY_FIELDS, FOLDED, CHUNK_LINE_TOO_LONG, EXTENSIONS_TOO_LONG, OUT_OF_MEMORY

cdef tuple FRAMINGS = ("none", "length", "chunked", "close", "unframed", "tunnel")
cdef tuple ENDS = (None, "no body", "length", "last chunk", "close")
cdef enum Framing:
    FRAMED_NONE, FRAMED_LENGTH, FRAMED_CHUNKED, FRAMED_CLOSE, FRAMED_NOT, FRAMED_TUNNEL


include "section.pxi"
include "head.pxi"
include "rules.pxi"
include "queue.pxi"


cdef class ResponseParser:
    """Reads the responses of one connection, each matched to the request that was expected first.

    Two forms. Own buffer: receive into the parser itself (it exports its free room as a buffer), then call
    `buffer_updated`. Feed: call `feed`, which stops where a response can be handed out, and says how many bytes it
    took.

    response_class: ResponseHead, or a subclass without slots of its own. invalid, unsupported: the exceptions to
    raise. limits: an object with the attributes of httpio.Limits, or None for the same values. lenient:
    httpio.Lenient. body_limit: the largest body, in bytes, that is collected into `response.body` before its
    response is handed out; a larger one is handed out at its head, to be read by `read_into`. -1: every response
    that has a body is handed out at its head.
    """

    cdef Section section
    cdef char* buffer
    cdef Py_ssize_t start, end          # the bytes of the buffer that wait to be parsed
    cdef int exports
    cdef Py_ssize_t exported            # room that was exported last, until it is known how much was received
    cdef bint exports_body              # what is exported is the tail of the body under way
    cdef char* carry                    # the part of a section that came in earlier inputs
    cdef Py_ssize_t carry_size, carry_room
    cdef int max_headers, max_trailers, max_interim, lenient
    cdef Py_ssize_t max_line_size, max_field_size, max_leading

    cdef RequestQueue requests

    cdef State state
    cdef readonly bint in_section       # a header or trailer section has begun and not ended
    cdef bint trailing, feeding, ended_cleanly, given_up
    cdef readonly bint at_eof           # the peer has closed
    cdef readonly bint surplus          # bytes came that answer no request
    cdef readonly int keep_timeout      # seconds that the peer keeps an idle connection, by its last word; -1: unknown
    cdef int keep_max                   # requests that it takes behind the response begun last; -1: no limit known
    cdef Py_ssize_t leading
    cdef list interim
    cdef Py_ssize_t interim_size
    cdef ResponseHead response          # whose body is under way
    cdef bint streamed                  # it was handed out at its head
    cdef uint64_t remaining             # bytes of a body with a length
    cdef PyObject* body                 # a bytes object being filled
    cdef Py_ssize_t body_size, body_room
    cdef const char* slice              # content that is parsed but not yet read
    cdef Py_ssize_t slice_size
    cdef char* target                   # where a read wants content
    cdef Py_ssize_t target_room
    cdef public Py_ssize_t body_limit

    cdef type response_class
    cdef object invalid, unsupported
    cdef object error_class
    cdef str error_text
    cdef list ready                     # of the feed form
    cdef uint64_t consumed              # bytes of the connection before this input
    cdef uint64_t message               # where in them the response under way began
    cdef const char* input

    def __cinit__(self, type response_class, invalid, unsupported, limits=None, int lenient=0,
                  Py_ssize_t body_limit=-1):
        cdef int allowed
        if not issubclass(response_class, ResponseHead):
            raise TypeError("response_class must be ResponseHead or a subclass of it")
        self.response_class = response_class
        self.invalid = invalid
        self.unsupported = unsupported
        self.body_limit = body_limit
        self.keep_timeout = self.keep_max = -1
        self.lenient = lenient
        self.max_line_size = limits.max_line_size if limits is not None else 65536
        self.max_headers = limits.max_headers if limits is not None else 100
        self.max_field_size = limits.max_field_size if limits is not None else 262144
        self.max_interim = limits.max_interim if limits is not None else 100
        self.max_trailers = limits.max_trailers if limits is not None else 100
        self.max_leading = limits.max_leading if limits is not None else 65536
        self.section.max_line = limits.max_chunk_line if limits is not None else 4096
        self.section.max_extensions = limits.max_chunk_ext if limits is not None else 16384
        self.section.max_line += 4    # the line ends before and after it
        self.interim = []
        self.ready = []
        self.requests = RequestQueue()
        allowed = max(self.max_headers, self.max_trailers)
        if min(self.max_headers, self.max_trailers, self.max_interim) < 0 or allowed > MOST_FIELDS:
            raise ValueError(f"a limit on the number of fields is between 0 and {MOST_FIELDS}")
        if (min(self.max_line_size, self.max_field_size, self.max_leading) < 0
                or min(self.section.max_line, self.section.max_extensions) < 0):
            raise ValueError("a limit on a size cannot be negative")
        self.section.fields = <Field*>PyMem_Malloc((allowed + 1) * sizeof(Field))
        if self.section.fields is NULL:
            raise MemoryError
        self.section.parser = <PyObject*>self
        llhttp_init(&self.section.http, HTTP_RESPONSE, &settings)
        self.section.http.data = &self.section
        llhttp_set_lenient_version(&self.section.http, 1)    # a version of another kind is named as such, below
        llhttp_set_lenient_headers(&self.section.http, lenient & LENIENT_CTL != 0)
        llhttp_set_lenient_optional_cr_before_lf(&self.section.http, lenient & LENIENT_LF != 0)
        llhttp_set_lenient_spaces_after_chunk_size(&self.section.http, lenient & LENIENT_CHUNK_SPACE != 0)

    def __dealloc__(self):
        PyMem_Free(self.section.fields)
        PyMem_Free(self.buffer)
        PyMem_Free(self.carry)
        Py_XDECREF(self.body)

    # -- the outstanding requests --

    cpdef expect(self, request, int fact=0):
        """Note one more outstanding request: any object, which becomes the response's; fact: 1 HEAD, 2 CONNECT, 4
        upgrade asked."""
        self.note_surplus()
        self.requests.push(request, <unsigned char>fact)

    def expect_all(self, list requests):
        """Note many more outstanding requests, none of them HEAD, CONNECT or asking for an upgrade."""
        for request in requests:
            self.expect(request)

    @property
    def outstanding(self):
        """The requests that are not answered in full, oldest first, as a tuple."""
        return self.requests.as_tuple()

    @property
    def waiting_count(self):
        """How many requests are not answered in full."""
        return self.requests.waiting

    @property
    def open(self):
        """The response that was handed out at its head and whose body has not ended, or None."""
        return self.response if self.streamed else None

    @property
    def progress(self):
        """How far the oldest outstanding request's response has come: None, "in head" or "in body"."""
        if self.response is not None:
            return "in body"
        return "in head" if self.in_section or self.interim else None

    @property
    def received(self):
        """Bytes of the body under way that have been received and parsed, or read."""
        if self.response is None:
            return 0
        if self.state == LENGTH:
            here = min(self.remaining, <uint64_t>(self.end - self.start))
            return self.response._length - <long long>(self.remaining - here)
        if self.state == UNTIL_CLOSE and self.streamed:
            return self.body_size + (self.end - self.start)
        return self.body_size

    @property
    def expected(self):
        """Bytes of the body under way by its Content-Length; None: there is none, or nothing says."""
        return self.response.length if self.response is not None else None

    @property
    def interim_responses(self):
        """The interim responses that came so far for the oldest outstanding request, as a tuple."""
        return tuple(self.interim)

    @property
    def reusable(self):
        """Whether a response to a further request can come: nothing is broken, ended, or unasked for."""
        self.note_surplus()
        if self.surplus or self.at_eof or self.allowance() == 0:
            return False
        return not self.given_up and (
            self.state == HEAD or (self.response is not None and self.response.persistent and self.state != BROKEN))

    @property
    def takes(self):
        """How many more requests the peer takes on this connection, by the max of its Keep-Alive field; None: it does
        not say."""
        return None if self.keep_max < 0 else self.allowance()

    cdef Py_ssize_t allowance(self) noexcept:
        cdef Py_ssize_t behind = self.requests.waiting - (self.response is not None)
        return -1 if self.keep_max < 0 else max(0, self.keep_max - behind)

    @property
    def stage(self):
        """Where reading is: 0 nothing outstanding, 1 a response is awaited, 2 a response is open, 3 another protocol,
        4 nothing more will come, 5 broken."""
        return self.find_stage()

    cdef int find_stage(self) noexcept:
        if self.state == BROKEN or self.given_up:
            return 5
        if self.state == TUNNEL:
            return 3
        if self.streamed:
            return 2
        self.note_surplus()
        if self.state == ENDED or self.at_eof or self.surplus:
            return 4
        return 1 if self.requests.waiting else 0

    @property
    def awaits(self):
        """Whether a response is to come, and nothing stands against its coming."""
        return self.find_stage() == 1

    cdef void note_surplus(self) noexcept:
        """Nothing is outstanding, and bytes are here: but for empty lines, they answer nothing."""
        if self.requests.waiting == 0 and self.end > self.start and self.state == HEAD and not self.surplus:
            self.start = self.skip_line_ends(self.buffer + self.start, self.buffer + self.end) - self.buffer
            self.surplus = self.end > self.start

    def disown(self, list requests):
        """The responses handed out last, to *requests*, cannot be theirs, nor the open one its own: they are outstanding
        again, and nothing more that comes answers anything."""
        for request in reversed(requests):
            self.requests.push_front(request, PLAIN)
        self.response = None
        self.streamed = False
        self.surplus = True
        self.state = ENDED

    def give_up(self):
        """The connection has failed: nothing that may still come is to be trusted."""
        self.given_up = True

    @property
    def buffered(self):
        """Bytes that are here and not yet parsed or read."""
        return self.end - self.start + self.slice_size

    # -- own buffer --

    def get_buffer(self, sizehint=-1):
        """What to receive into: the parser itself, by the name of asyncio.BufferedProtocol."""
        return self

    def __len__(self):
        return self.make_room()

    @property
    def room(self):
        """Bytes that can be received now. Never receive when it is 0: the 0 that comes back would look like the
        peer's close."""
        return self.make_room()

    cdef Py_ssize_t make_room(self) except -1:
        if self.fills_body():
            return min(self.remaining, DIRECT_SIZE)
        if self.buffer is NULL:
            self.buffer = <char*>PyMem_Malloc(BUFFER_SIZE)
            if self.buffer is NULL:
                raise MemoryError
        if self.start == self.end and not self.slice_size and not self.exported:
            self.start = self.end = 0
        return BUFFER_SIZE - self.end

    cdef bint fills_body(self) noexcept:
        return (self.state == LENGTH and self.response is not None and not self.streamed and self.start == self.end
                and self.remaining >= DIRECT_SIZE)

    def __getbuffer__(self, Py_buffer* view, int flags):
        cdef Py_ssize_t room
        self.check_not_exported()
        self.exported = 0
        room = self.make_room()
        if room == 0:
            raise BufferError("the receive buffer is full")
        if self.fills_body():
            self.reserve_body(self.body_size + room)
            PyBuffer_FillInfo(view, self, PyBytes_Data(self.body) + self.body_size, room, 0, flags)
            self.exports_body = True
        else:
            PyBuffer_FillInfo(view, self, self.buffer + self.end, room, 0, flags)
            self.exports_body = False
        self.exported = room
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1

    cdef int check_not_exported(self) except -1:
        if self.exports:
            raise BufferError("the parser's buffer is exported")
        return 0

    def buffer_updated(self, Py_ssize_t received):
        """Parse, after *received* bytes were written to the buffer that the parser exported; returns as `parse`
        does."""
        self.check_not_exported()
        if received < 0 or received > self.exported:
            raise ValueError("more bytes received than there was room for")
        self.exported = 0
        if self.exports_body:
            self.exports_body = False
            self.body_size += received
            self.remaining -= received
            self.consumed += received
            if self.remaining == 0:
                out = []
                self.end_message(BY_LENGTH, out)
                return out
            return []
        self.end += received
        return self.parse()

    def parse(self):
        """Parse what is buffered; returns the responses that can be handed out now, a list that may be empty.

        A response with a body larger than `body_limit` is the last of its list: it is handed out at its head, is
        `open` from then on, and is read by `read_into` before anything after it is parsed. With a body_limit of -1
        each list has at most one response. Raises InvalidResponse or UnsupportedResponse; after either, every
        further call raises the same.
        """
        cdef list out = []
        cdef const char* stop
        self.feeding = False
        self.check_not_exported()
        if self.state == BROKEN:
            raise self.error_class(self.error_text)
        if self.end > self.start:
            stop = self.run(self.buffer + self.start, self.buffer + self.end, out)
            self.start = stop - self.buffer
        return out

    # -- feed --

    def feed(self, data):
        """Parse bytes that the caller owns; returns how many were taken. `take` and `read_into` give what came of them.

        Stops at the end of a message, and at the end of a header section unless the body behind it is collected. Raises
        as `parse` does; content that came before the fault can still be read, and behind it the error is raised again.
        """
        cdef Py_buffer view
        cdef const char* stop
        cdef const char* at
        self.check_not_exported()
        if self.state == BROKEN:
            raise self.error_class(self.error_text)
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            self.exported = 0
            self.exports_body = False
            self.feeding = True
            at = <const char*>view.buf
            if view.len == 0:
                return 0
            stop = self.run(at, at + view.len, self.ready)
            return stop - at
        finally:
            PyBuffer_Release(&view)

    def take(self):
        """The responses whose header section, or whole message up to `body_limit`, was completed by `feed` since
        the last call."""
        ready = self.ready
        self.ready = []
        return ready

    # -- the run through an input --

    cdef const char* run(self, const char* p, const char* end, list out) except NULL:
        """Parse from *p* as far as this form goes; returns where it stopped."""
        try:
            return self.run_on(p, end, out)
        except BaseException as exc:
            if self.state != BROKEN:    # an object could not be made: where llhttp stands is not known any more
                self.fail(self.invalid, f"parsing was interrupted by {type(exc).__name__}", p, p)
            raise

    cdef const char* run_on(self, const char* p, const char* end, list out) except NULL:
        cdef bint single = self.feeding or self.body_limit < 0
        cdef Py_ssize_t before = len(out)    # feed may find responses that were not taken yet
        cdef const char* begun
        self.input = p
        while not self.surplus:
            begun = p
            if self.state == HEAD:
                p = self.read_head(p, end, out)
            elif self.state == LENGTH or self.state == CHUNKED or self.state == UNTIL_CLOSE:
                if self.streamed and not self.feeding:
                    break
                p = self.collect(p, end, out)
            else:
                break
            if p is NULL:    # broken: what was complete before stands
                p = begun
                if len(out) == before or self.feeding:
                    raise self.error_class(self.error_text)
                break
            if p == end or (single and len(out) > before):
                break
            if self.state == HEAD and (self.feeding or self.requests.waiting == 0):
                break
        if self.state == HEAD and self.requests.waiting == 0 and not self.in_section:
            p = self.skip_line_ends(p, end)
            if p < end and not self.feeding:
                self.surplus = True
        self.consumed += p - self.input
        self.input = NULL
        return p

    cdef const char* skip_line_ends(self, const char* p, const char* end) noexcept:
        while p < end and (p[0] == c'\r' or p[0] == c'\n') and self.leading <= self.max_leading:
            p += 1
            self.leading += 1
        return p

    cdef const char* read_head(self, const char* p, const char* end, list out) except? NULL:
        cdef Section* s = &self.section
        cdef llhttp_errno_t outcome
        if not self.in_section:
            if self.requests.waiting == 0:
                return p
            p = self.skip_line_ends(p, end)
            if self.leading > self.max_leading:
                wrong = "more empty lines before the status line than Limits.max_leading allows"
                return self.fail(self.invalid, wrong, p, end)
            if p == end:
                return p
            self.message = self.consumed + (p - self.input)
            llhttp_reset(&s.http)
            # In a 2xx to CONNECT neither means anything (RFC 9110 section 9.3.6). Else `decide_framing` refuses both.
            llhttp_set_lenient_chunked_length(&s.http, self.requests.oldest_fact() & IS_CONNECT != 0)
            self.begin_section(p, self.max_headers, False)
        else:
            s.base = p
        outcome = llhttp_execute(&s.http, p, end - p)
        if outcome == HPE_OK:
            if self.section_too_large(end):
                return self.fail_section(end, end)
            self.carry_on(end)
            return end
        if outcome != HPE_PAUSED:
            return self.fail_parse(end)
        return self.end_head(llhttp_get_error_pos(&s.http), end, out)

    cdef void begin_section(self, const char* p, int allowed, bint trailing) noexcept:
        cdef Section* s = &self.section
        s.base = p
        s.carried = self.carry_size = 0
        s.count = 0
        s.allowed = allowed
        s.in_name = s.in_value = False
        s.problem = NONE
        if self.lenient & LENIENT_LF:
            llhttp_set_lenient_optional_cr_before_lf(&s.http, 1)
        self.trailing = trailing
        self.in_section = True

    cdef bint section_too_large(self, const char* p) noexcept:
        cdef Section* s = &self.section
        cdef Py_ssize_t size = s.carried + (p - s.base)
        # A whole status line is measured by itself: here its line end counts.
        return size > self.max_field_size or (
            s.count == 0 and not s.in_name and not self.trailing and size > self.max_line_size + 2)

    cdef const char* fail_section(self, const char* p, const char* end) except? NULL:
        cdef Section* s = &self.section
        if self.trailing:
            wrong = "the trailer section is larger than Limits.max_trailers and max_field_size allow"
            return self.fail(self.invalid, wrong, p, end)
        if (s.count == 0 and not s.in_name) or s.fields[0].name > self.max_line_size:
            return self.fail(self.invalid, "the status line is longer than Limits.max_line_size", p, end)
        return self.fail(self.invalid, "the header section is larger than Limits.max_field_size", p, end)

    cdef int carry_on(self, const char* end) except -1:
        """Keep the part of the section that this input held: the input's memory may be gone at the next call."""
        cdef Section* s = &self.section
        cdef Py_ssize_t size = end - s.base
        cdef char* grown
        if size == 0:
            return 0
        if self.carry_size + size > self.carry_room:
            grown = <char*>PyMem_Realloc(self.carry, 2 * (self.carry_size + size))
            if grown is NULL:
                raise MemoryError
            self.carry = grown
            self.carry_room = 2 * (self.carry_size + size)
        memcpy(self.carry + self.carry_size, s.base, size)
        self.carry_size += size
        s.carried = self.carry_size
        s.base = end
        return 0

    cdef const char* whole_section(self, const char* p) except NULL:
        """The section's text in one piece, up to *p*."""
        if self.section.carried == 0:
            return self.section.base
        self.carry_on(p)
        return self.carry

    cdef bytes pack_fields(self, const char* text, Py_ssize_t size):
        cdef Py_ssize_t table = self.section.count * sizeof(Field)
        cdef bytes packed = PyBytes_FromStringAndSize(NULL, table + size)
        memcpy(PyBytes_AS_STRING(packed), self.section.fields, table)
        memcpy(PyBytes_AS_STRING(packed) + table, text, size)
        return packed

    # -- the end of a header section: what this response is --

    cdef const char* end_head(self, const char* p, const char* end, list out) except? NULL:
        cdef Section* s = &self.section
        cdef Py_ssize_t size
        cdef const char* text
        cdef ResponseHead head
        cdef unsigned char fact = self.requests.oldest_fact()
        cdef str wrong
        if self.section_too_large(p):
            return self.fail_section(p, end)
        size = s.carried + (p - s.base)
        text = self.whole_section(p)
        wrong = check_status_line(&s.http, text, text + size, self.max_line_size, self.lenient)
        if wrong is None:
            wrong = check_fields(s, text, self.max_line_size, self.lenient)
        if wrong is not None:
            return self.fail(self.unsupported if wrong.startswith("HTTP version") else self.invalid, wrong, p, end)

        head = <ResponseHead>httpio_new(self.response_class, ())
        head.status = s.http.status_code
        head.version = 10 if s.http.http_minor == 0 else 11
        head.request_complete = True
        head._keep_timeout = head._keep_max = -1
        head._section = self.pack_fields(text, size)
        head._count = s.count
        head._item = self.requests.oldest()
        self.in_section = False
        self.leading = 0
        self.slice_size = 0    # what nobody read of a body before is not this one's

        head.informational = ()
        if head.status < 200 and head.status != 101:
            head._end = NO_BODY
            self.interim.append(head)
            self.interim_size += size
            if len(self.interim) > self.max_interim or self.interim_size > self.max_field_size:
                return self.fail(self.invalid, "more interim responses than Limits.max_interim allows", p, end)
            return p

        wrong = decide_framing(head, s, text, fact, self.lenient)
        if wrong is not None:
            self.in_section = True
            return self.fail(self.unsupported if wrong.startswith("unsupported") else self.invalid, wrong, p, end)
        if head._keep_timeout >= 0:
            self.keep_timeout = head._keep_timeout
        if head._keep_max >= 0:
            self.keep_max = head._keep_max
        elif self.keep_max > 0:
            self.keep_max -= 1
        if self.interim:
            head.informational = tuple(self.interim)
            self.interim = []
            self.interim_size = 0
        self.begin_body(head, out)
        return p

    # -- bodies --

    cdef int begin_body(self, ResponseHead head, list out) except -1:
        cdef Section* s = &self.section
        cdef bint collected = self.body_limit >= 0 and head._length <= self.body_limit
        if head._framing == FRAMED_TUNNEL:
            self.pop_request(head, NO_BODY)
            self.state = TUNNEL
            out.append(head)
            return 0
        if head._length == 0:
            head.body = b""
            self.pop_request(head, BY_LENGTH if head._framing == FRAMED_LENGTH else NO_BODY)
            out.append(head)
            return 0
        self.body_size = 0
        self.response = head
        if head._framing == FRAMED_LENGTH:
            self.state = LENGTH
            self.remaining = head._length
        elif head._framing == FRAMED_CHUNKED:
            self.state = CHUNKED
            # llhttp misses "chunked<TAB>" and "chunked,", which the list rule allows
            s.http.flags |= F_CHUNKED | F_TRANSFER_ENCODING
            llhttp_set_lenient_optional_cr_before_lf(&s.http, 0)    # of header sections only
            llhttp_resume(&s.http)
            s.line = NULL
            s.line_carried = 2
            s.new_chunk = False
            s.extensions = 0
            self.trailing = False
        elif head._framing == FRAMED_CLOSE:
            self.state = UNTIL_CLOSE
        else:
            self.state = UNFRAMED
            collected = False
        self.streamed = not collected
        if self.streamed:
            out.append(head)
        return 0

    cdef int pop_request(self, ResponseHead head, End by) except -1:
        head._end = by
        self.requests.pop()
        self.state = HEAD if head.persistent else ENDED
        return 0

    cdef int end_message(self, End by, list out) except -1:
        """The body under way has ended: its response is complete."""
        cdef ResponseHead head = self.response
        self.response = None
        if self.streamed:
            self.streamed = False
        else:
            head.body = self.take_body()
            out.append(head)
        return self.pop_request(head, by)

    cdef const char* collect(self, const char* p, const char* end, list out) except? NULL:
        """Move the body's bytes at *p* into `body`, as far as they go."""
        cdef uint64_t size = end - p
        if self.state == LENGTH:
            if size > self.remaining:
                size = self.remaining
            if self.remaining == size and self.body is NULL and not self.streamed:
                self.body = PyBytes_New(p, <Py_ssize_t>size)
                self.body_size = self.body_room = <Py_ssize_t>size
            else:
                self.append_body(p, <Py_ssize_t>size)
            self.remaining -= size
            if self.remaining == 0:
                self.end_message(BY_LENGTH, out)
            return p + size
        if self.state == UNTIL_CLOSE:
            self.append_body(p, <Py_ssize_t>size)
            if not self.streamed and self.body_size > self.body_limit:
                self.hand_out_early(out)
            return end
        p = self.read_chunks(p, end, out)
        if p is not NULL and self.response is not None and not self.streamed and self.body_size > self.body_limit:
            self.hand_out_early(out)
        return p

    cdef int hand_out_early(self, list out) except -1:
        """The body has outgrown `body_limit`: what was collected will be read first."""
        self.streamed = True
        self.slice = PyBytes_Data(self.body)
        self.slice_size = self.body_size
        out.append(self.response)
        return 0

    cdef int reserve_body(self, Py_ssize_t size) except -1:
        cdef Py_ssize_t room
        if size <= self.body_room:
            return 0
        room = max(size, 2 * self.body_room, 4096)
        if self.state == LENGTH:
            room = max(room, FIRST_BODY)
            room = <Py_ssize_t>min(<uint64_t>room, <uint64_t>self.body_size + self.remaining)
        if self.body is NULL:
            self.body = PyBytes_New(NULL, room)
        else:
            self.body_room = 0
            _PyBytes_Resize(&self.body, room)
        self.body_room = room
        return 0

    cdef int append_body(self, const char* p, Py_ssize_t size) except -1:
        cdef Py_ssize_t unread = 0
        if self.streamed:    # the feed form: content waits as a slice until it is read
            unread = self.slice_size
            if unread and self.body is not NULL and self.slice != PyBytes_Data(self.body):
                memmove(PyBytes_Data(self.body), self.slice, unread)
            self.reserve_body(unread + size)
            memcpy(PyBytes_Data(self.body) + unread, p, size)
            self.slice = PyBytes_Data(self.body)
            self.slice_size = unread + size
        else:
            self.reserve_body(self.body_size + size)
            memcpy(PyBytes_Data(self.body) + self.body_size, p, size)
        self.body_size += size
        return 0

    cdef bytes take_body(self):
        cdef PyObject* whole
        cdef bytes body
        if self.body is NULL:
            return b""
        if self.body_size != self.body_room:
            self.body_room = 0
            _PyBytes_Resize(&self.body, self.body_size)
        whole = self.body
        self.body = NULL
        self.body_room = 0
        body = <bytes>whole
        Py_DECREF(body)
        return body

    cdef const char* read_chunks(self, const char* p, const char* end, list out) except? NULL:
        """Run llhttp through chunks; stops at the end of the message, or where a read's target is full."""
        cdef Section* s = &self.section
        cdef llhttp_errno_t outcome
        cdef const char* text
        cdef ResponseHead head = self.response
        s.line = p
        if self.trailing:
            s.base = p
        while True:
            outcome = llhttp_execute(&s.http, p, end - p)
            if outcome == HPE_OK:
                p = end
                break
            if outcome != HPE_PAUSED:
                return self.fail_parse(end)
            p = llhttp_get_error_pos(&s.http)
            llhttp_resume(&s.http)
            if s.new_chunk and s.http.content_length == 0 and not self.trailing:    # the last chunk's line
                s.new_chunk = False
                if not chunk_line_fits(s, p):
                    s.problem = CHUNK_LINE_TOO_LONG
                    return self.fail_parse(end)
                self.begin_section(p, self.max_trailers, True)
                continue
            if not self.trailing:    # a read's target is full
                return p
            if self.section_too_large(p):
                return self.fail_section(p, end)
            if s.count:
                size = s.carried + (p - s.base)
                text = self.whole_section(p)
                wrong = check_fields(s, text, self.max_line_size, self.lenient)
                if wrong is not None:
                    return self.fail(self.invalid, wrong, p, end)
                head._trailer_section = self.pack_fields(text, size)
                head._trailer_count = s.count
            self.in_section = self.trailing = False
            self.end_message(BY_LAST_CHUNK, out)
            return p
        if self.trailing:
            if self.section_too_large(p):
                return self.fail_section(p, end)
            self.carry_on(p)
        else:
            if not chunk_line_fits(s, end):
                s.problem = CHUNK_LINE_TOO_LONG
                return self.fail_parse(end)
            s.line_carried += end - s.line
        return p

    cdef int chunk_data(self, const char* at, Py_ssize_t size) noexcept:
        """A piece of chunk data: to a read's target, or to the body; what does not fit the target waits as the
        slice."""
        cdef Py_ssize_t fits
        if not self.streamed or self.feeding:
            try:
                self.append_body(at, size)
            except MemoryError:
                self.section.problem = OUT_OF_MEMORY
                return HPE_USER
            return HPE_PAUSED if not self.streamed and self.body_size > self.body_limit else 0
        fits = min(size, self.target_room)
        memcpy(self.target, at, fits)
        self.target += fits
        self.target_room -= fits
        self.body_size += size
        if fits < size:
            self.slice = at + fits
            self.slice_size = size - fits
            return HPE_PAUSED
        return 0

    def read_into(self, target):
        """Copy content of the `open` response into a writable buffer; returns how many bytes.

        0 means that nothing is buffered, or, when `open` is None, that the body has ended. Raises as `parse` does, and
        UnsupportedResponse for a body that nothing delimits.
        """
        cdef Py_buffer view
        PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
        try:
            return self.copy_out(<char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)

    def read(self, Py_ssize_t size):
        """Content of the `open` response that is buffered, at most *size* bytes, as bytes. ``b""`` means what 0
        means for `read_into`."""
        cdef PyObject* content
        cdef Py_ssize_t count
        size = min(size, self.slice_size + self.end - self.start)
        if self.state == LENGTH and self.remaining < <uint64_t>size:
            size = <Py_ssize_t>self.remaining
        content = PyBytes_New(NULL, max(size, 0))
        try:
            count = self.copy_out(PyBytes_Data(content), max(size, 0))
            if count < size:
                _PyBytes_Resize(&content, count)
            return <object>content
        finally:
            Py_XDECREF(content)

    cdef Py_ssize_t copy_out(self, char* at, Py_ssize_t room) except -1:
        cdef Py_ssize_t size, done = 0
        self.check_not_exported()
        if self.state == UNFRAMED:
            self.error_class = self.unsupported
            self.error_text = "an HTTP/1.1 response with neither Content-Length, chunked coding nor Connection: close"
            self.state = BROKEN
        if self.state == BROKEN and not self.slice_size:
            raise self.error_class(self.error_text)
        while True:
            if self.slice_size:
                size = min(self.slice_size, room - done)
                if size == 0:
                    break
                memcpy(at + done, self.slice, size)
                self.slice += size
                self.slice_size -= size
                done += size
            elif not self.streamed:
                break
            elif self.state == CHUNKED and self.end > self.start:
                self.target = at + done
                self.target_room = room - done
                self.run_chunks()
                done = self.target - at
            elif self.state == CHUNKED or self.end == self.start or done == room:
                break
            else:
                size = min(self.end - self.start, room - done)
                if self.state == LENGTH and <uint64_t>size > self.remaining:
                    size = <Py_ssize_t>self.remaining
                memcpy(at + done, self.buffer + self.start, size)
                self.start += size
                done += size
                self.received_direct(size)
        if self.state == UNTIL_CLOSE and self.streamed and self.ended_cleanly:
            if not self.slice_size and self.start == self.end:
                self.end_message(BY_CLOSE, None)
        return done

    cdef int run_chunks(self) except -1:
        cdef const char* stop
        self.feeding = False
        self.input = self.buffer + self.start
        stop = self.read_chunks(self.input, self.buffer + self.end, None)
        if stop is NULL:
            raise self.error_class(self.error_text)
        self.consumed += stop - self.input
        self.start = stop - self.buffer
        return 0

    @property
    def direct(self):
        """How many of the open body's bytes may be received past the parser, straight into the reader's memory; 0:
        none now."""
        if not self.streamed or self.slice_size or self.end > self.start or self.at_eof:
            return 0
        if self.state == LENGTH:
            return self.remaining
        if self.state == CHUNKED:
            return self.rest_of_chunk() if self.feeding else 0
        return INT64_MAX if self.state == UNTIL_CLOSE else 0

    def direct_received(self, Py_ssize_t size):
        """Count bytes of the open body that were received past the parser, at most `direct` of them."""
        if size < 0 or size > self.direct:
            raise ValueError("more bytes than the body has left")
        self.received_direct(size)

    cdef int received_direct(self, Py_ssize_t size) except -1:
        self.consumed += size
        if self.state == LENGTH:
            self.remaining -= size
            if self.remaining == 0:
                self.end_message(BY_LENGTH, None)
        else:
            self.body_size += size
            if self.state == CHUNKED and size:
                self.section.http.content_length -= size
                self.section.new_chunk = False
                self.section.line_carried = 0
        return 0

    cdef int64_t rest_of_chunk(self) noexcept:
        """The data of the chunk under way but its last byte, which shows llhttp where it ends; 0 outside of chunk data,
        where llhttp's count has another meaning."""
        cdef Section* s = &self.section
        if self.trailing or not (s.new_chunk or s.line_carried == 0) or s.http.content_length == 0:
            return 0
        return <int64_t>min(s.http.content_length, <uint64_t>INT64_MAX) - 1

    # -- the end of the connection --

    def eof(self, bint clean=True):
        """The peer has closed. Returns the responses that this completes: a close-delimited one, if the close was
        *clean*.

        clean: FIN on plain TCP, close_notify on TLS (RFC 9112 section 9.8). Whatever is then still `outstanding`
        will not come.
        """
        cdef list out = []
        if self.state == UNTIL_CLOSE and clean:
            self.ended_cleanly = True
            if not self.streamed:
                self.end_message(BY_CLOSE, out)
            elif not self.slice_size and self.start == self.end:
                self.end_message(BY_CLOSE, None)
        self.at_eof = True
        return out

    def leftover(self):
        """The bytes that were received and have not become part of a response: what follows a 101 or an accepted
        CONNECT, or what was refused. They leave the parser."""
        data = b""
        if self.in_section and self.carry_size:
            data = PyBytes_FromStringAndSize(self.carry, self.carry_size)
        if self.slice_size:
            data += PyBytes_FromStringAndSize(self.slice, self.slice_size)
        if self.buffer is not NULL:
            data += PyBytes_FromStringAndSize(self.buffer + self.start, self.end - self.start)
        self.start = self.end = 0
        self.slice_size = self.carry_size = 0
        return data

    # -- failing --

    cdef const char* fail_parse(self, const char* end) except? NULL:
        """llhttp stopped: for a reason of its own, or for one that a callback noted."""
        cdef Section* s = &self.section
        cdef const char* p = llhttp_get_error_pos(&s.http)
        cdef const char* reason
        if s.problem == TOO_MANY_FIELDS:
            text = f"more fields than Limits.{'max_trailers' if self.trailing else 'max_headers'} allows"
        elif s.problem == FOLDED:
            text = "a field value continues on a second line (obs-fold)"
        elif s.problem == CHUNK_LINE_TOO_LONG:
            text = "a chunk's size and extensions are longer than Limits.max_chunk_line"
        elif s.problem == EXTENSIONS_TOO_LONG:
            text = "the chunk extensions are larger than Limits.max_chunk_ext"
        elif s.problem == OUT_OF_MEMORY:
            raise MemoryError
        else:
            reason = llhttp_get_error_reason(&s.http)
            text = reason.decode("ascii", "replace") if reason is not NULL else "malformed"
        if p is NULL or p < self.input or p > end:
            p = end
        return self.fail(self.invalid, text, p, end)

    cdef const char* fail(self, error_class, str text, const char* p, const char* end) except? NULL:
        """Break: note what this call and every later one raises. Returns NULL, with no exception set."""
        cdef const char* low = p - CONTEXT if p - self.input > CONTEXT else self.input
        cdef const char* high = p + CONTEXT if end - p > CONTEXT else end
        cdef uint64_t offset = self.consumed + (p - self.input) - self.message
        near = PyBytes_FromStringAndSize(low, high - low)
        self.error_class = error_class
        self.error_text = f"{text}, at byte {offset} of the response, near {near!r}"
        self.state = BROKEN
        if not self.feeding:    # in the feed form content waits in `body`, and can still be read
            self.slice_size = 0
        return NULL
