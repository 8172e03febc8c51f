"""The header section, trailer section or chunk line under way, and llhttp's callbacks, which see nothing else."""

cdef struct Field:
    uint32_t name, name_size, value, value_size    # offsets from the section's first byte, and sizes


cdef struct Section:
    # What llhttp's callbacks see: the header or trailer section, or the chunk line, under way.
    llhttp_t http
    PyObject* parser
    const char* base          # where the section continues in this input
    Py_ssize_t carried        # bytes of the section that came in earlier inputs
    Field* fields
    int count
    int allowed               # fields
    bint in_name
    bint in_value
    const char* line          # where the chunk line continues in this input
    Py_ssize_t line_carried
    Py_ssize_t max_line
    bint new_chunk
    Py_ssize_t extensions     # bytes of chunk extensions in this message
    Py_ssize_t max_extensions
    Problem problem


# The callbacks note where things are, and stop what has grown too large.

cdef int on_header_field(llhttp_t* http, const char* at, size_t size) noexcept nogil:
    cdef Section* s = <Section*>http.data
    cdef Field* field
    if s.in_name:
        s.fields[s.count].name_size += <uint32_t>size
        return 0
    if s.count >= s.allowed:
        s.problem = TOO_MANY_FIELDS
        return HPE_USER
    field = &s.fields[s.count]
    field.name = <uint32_t>(s.carried + (at - s.base))
    field.name_size = <uint32_t>size
    s.in_name = True
    return 0


cdef int on_header_value(llhttp_t* http, const char* at, size_t size) noexcept nogil:
    cdef Section* s = <Section*>http.data
    cdef Field* field = &s.fields[s.count]
    cdef uint32_t offset = <uint32_t>(s.carried + (at - s.base))
    if not s.in_value:
        field.value = offset
        field.value_size = <uint32_t>size
        s.in_value = True
    elif offset == field.value + field.value_size:
        field.value_size += <uint32_t>size
    elif size:
        s.problem = FOLDED
        return HPE_USER
    return 0


cdef int on_header_value_complete(llhttp_t* http) noexcept nogil:
    cdef Section* s = <Section*>http.data
    cdef Field* field = &s.fields[s.count]
    if not s.in_value:
        field.value = field.name + field.name_size
        field.value_size = 0
    s.count += 1
    s.in_name = s.in_value = False
    return 0


cdef int on_headers_complete(llhttp_t* http) noexcept nogil:
    return HPE_PAUSED


cdef int on_chunk_header(llhttp_t* http) noexcept nogil:
    cdef Section* s = <Section*>http.data
    s.new_chunk = True
    return HPE_PAUSED if http.content_length == 0 else 0


cdef int on_chunk_extension(llhttp_t* http, const char* at, size_t size) noexcept nogil:
    cdef Section* s = <Section*>http.data
    s.extensions += <Py_ssize_t>size
    if s.extensions > s.max_extensions:
        s.problem = EXTENSIONS_TOO_LONG
        return HPE_USER
    return 0


cdef bint chunk_line_fits(Section* s, const char* end) noexcept nogil:
    return s.line_carried + (end - s.line) <= s.max_line


cdef int on_body(llhttp_t* http, const char* at, size_t size) noexcept:
    cdef Section* s = <Section*>http.data
    if s.new_chunk:
        s.new_chunk = False
        if not chunk_line_fits(s, at):
            s.problem = CHUNK_LINE_TOO_LONG
            return HPE_USER
    s.line = at + size
    s.line_carried = 0
    return (<ResponseParser>s.parser).chunk_data(at, <Py_ssize_t>size)


cdef int on_message_complete(llhttp_t* http) noexcept nogil:
    return HPE_PAUSED


cdef llhttp_settings_t settings
llhttp_settings_init(&settings)
settings.on_header_field = on_header_field
settings.on_header_value = on_header_value
settings.on_header_value_complete = on_header_value_complete
settings.on_headers_complete = on_headers_complete
settings.on_chunk_header = on_chunk_header
settings.on_chunk_extension_name = on_chunk_extension
settings.on_chunk_extension_value = on_chunk_extension
settings.on_body = <llhttp_data_cb>on_body
settings.on_message_complete = on_message_complete
