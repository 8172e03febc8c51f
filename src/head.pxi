"""What the parser makes: one object for each response."""

cdef class ResponseHead:
    """One response: its status line and header section, and what became of its body. Made by a ResponseParser."""

    cdef readonly int status
    cdef readonly int version
    cdef readonly bint persistent
    cdef Framing _framing
    cdef long long _length
    cdef End _end
    cdef int _keep_timeout, _keep_max    # of the Keep-Alive field; -1: it does not say
    cdef bytes _section       # the fields' offsets and sizes, then the text of the header section
    cdef int _count
    cdef bytes _trailer_section
    cdef int _trailer_count
    cdef readonly object body
    cdef readonly tuple informational
    cdef public object _item
    cdef public object _headers
    cdef public object _trailers
    cdef public bint request_complete

    @property
    def framing(self):
        """How the body is delimited: "none", "length", "chunked", "close", "unframed" or "tunnel"."""
        return FRAMINGS[<int>self._framing]

    @property
    def complete_by(self):
        """What ended the body: "no body", "length", "last chunk" or "close"; None while it has not ended."""
        return ENDS[<int>self._end]

    @property
    def length(self):
        """The body's length in bytes, 0 where there is none, None where only its end will tell."""
        return self._length if self._length >= 0 else None

    @property
    def reason(self):
        """The reason phrase, which may be empty."""
        cdef const char* text
        cdef const char* end
        cdef const char* stop
        if self._section is None:
            return ""
        text = PyBytes_AS_STRING(self._section) + self._count * sizeof(Field)
        end = PyBytes_AS_STRING(self._section) + PyBytes_GET_SIZE(self._section)
        text += 12    # behind the status code
        if text[0] == c' ':
            text += 1
        stop = text
        while stop < end and stop[0] != c'\r' and stop[0] != c'\n':
            stop += 1
        return PyUnicode_DecodeLatin1(text, stop - text, NULL)

    def replace_body(self, body):
        """What is done with the content once it is here, such as undoing its codings: *body*, bytes or None, is in the
        place of what was collected."""
        self.body = body

    @property
    def ascii(self):
        """Whether the status line and the header section hold nothing but ASCII."""
        cdef Py_ssize_t i
        cdef unsigned char seen = 0
        if self._section is not None:
            text = <const unsigned char*>PyBytes_AS_STRING(self._section)
            for i in range(self._count * <Py_ssize_t>sizeof(Field), PyBytes_GET_SIZE(self._section)):
                seen |= text[i]
        return seen < 128

    def fields(self):
        """The field lines of the header section, in order, as a new list of (name, value)."""
        return decode_fields(self._section, self._count)

    def trailer_fields(self):
        """The field lines of the trailer section, in order, as a new list of (name, value)."""
        return decode_fields(self._trailer_section, self._trailer_count)


cdef list decode_fields(bytes section, int count):
    cdef const Field* field
    cdef const char* text
    cdef int i
    cdef list fields = []
    if count:
        field = <const Field*>PyBytes_AS_STRING(section)
        text = <const char*>(field + count)
        for i in range(count):
            fields.append((PyUnicode_DecodeLatin1(text + field[i].name, field[i].name_size, NULL),
                           PyUnicode_DecodeLatin1(text + field[i].value, field[i].value_size, NULL)))
    return fields
