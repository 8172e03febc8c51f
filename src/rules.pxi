"""What llhttp leaves to its caller: the rules for status lines, fields, framing and persistence, each in one place."""

cdef inline unsigned char lower(char c) noexcept nogil:
    return c | 0x20 if c'A' <= c <= c'Z' else c


cdef bint equals(const char* text, Py_ssize_t size, const char* lower_case, Py_ssize_t wanted) noexcept nogil:
    cdef Py_ssize_t i
    if size != wanted:
        return False
    for i in range(size):
        if lower(text[i]) != <unsigned char>lower_case[i]:
            return False
    return True


cdef inline bint is_blank(char c) noexcept nogil:
    return c == c' ' or c == c'\t'


cdef bint is_tchar(unsigned char c) noexcept nogil:
    """RFC 9110 section 5.6.2."""
    if c'0' <= c <= c'9' or c'a' <= c <= c'z' or c'A' <= c <= c'Z':
        return True
    return c in (c'!', c'#', c'$', c'%', c'&', c"'", c'*', c'+', c'-', c'.', c'^', c'_', c'`', c'|', c'~')


cdef struct Member:
    const char* at
    Py_ssize_t size


cdef bint next_member(const char** cursor, const char* end, Member* member) noexcept nogil:
    """The next member of a comma-separated list that is not empty, without the blanks around it (RFC 9110 section
    5.6.1)."""
    cdef const char* p = cursor[0]
    cdef const char* stop
    while p < end:
        stop = p
        while stop < end and stop[0] != c',':
            stop += 1
        cursor[0] = stop + 1 if stop < end else end
        while p < stop and is_blank(p[0]):
            p += 1
        while stop > p and is_blank((stop - 1)[0]):
            stop -= 1
        if p < stop:
            member.at = p
            member.size = stop - p
            return True
        p = cursor[0]
    return False


cdef str check_status_line(llhttp_t* http, const char* text, const char* end, Py_ssize_t max_line_size, int lenient):
    cdef const char* p = text + 12    # behind the status code
    if not equals(text, 5, b"http/", 5) or text[0] != c'H' or text[1] != c'T':
        return "the status line does not begin with HTTP/"
    if http.http_major != 1 or http.http_minor > 1:
        return f"HTTP version {http.http_major}.{http.http_minor}"
    if http.status_code < 100:
        return "the status code is not between 100 and 999"
    while p < end and p[0] != c'\r' and p[0] != c'\n':
        if (<unsigned char>p[0] < 32 and p[0] != c'\t') or <unsigned char>p[0] == 127:
            return "the reason phrase holds a control octet"
        p += 1
    if lenient & LENIENT_CTL:    # this flag of llhttp's lets a blank lead the first field line, too
        while p < end and p[0] != c'\n':
            p += 1
        if p + 1 < end and is_blank(p[1]):
            return "a blank before the first field line"
    if p - text > max_line_size:
        return "the status line is longer than Limits.max_line_size"
    return None


cdef str check_fields(Section* s, const char* text, Py_ssize_t max_line_size, int lenient):
    """Trim the values (llhttp leaves the blanks behind them) and check what llhttp did not; returns what is wrong,
    or None."""
    cdef Field* field
    cdef int i
    cdef uint32_t k
    for i in range(s.count):
        field = &s.fields[i]
        if <Py_ssize_t>field.value + field.value_size - field.name > max_line_size:
            return "a field line is longer than Limits.max_line_size"
        while field.value_size and is_blank(text[field.value + field.value_size - 1]):
            field.value_size -= 1
        if lenient & LENIENT_CTL:    # this flag of llhttp's lets more through than control octets
            for k in range(field.name_size):
                if not is_tchar(<unsigned char>text[field.name + k]):
                    return "a field name holds what is not a token character"
            for k in range(field.name + field.name_size, field.value + field.value_size if field.value_size else 0):
                if text[k] in (0, c'\r', c'\n'):
                    return "a field value holds CR, LF or NUL"
    return None


cdef str decide_framing(ResponseHead head, Section* s, const char* text, unsigned char fact, int lenient):
    """RFC 9112 sections 6.3 and 9.3; returns what is wrong, or None."""
    cdef Field* field
    cdef int i, codings = 0
    cdef bint close = False, keep = False, chunked = False, coded = False
    cdef const char* cursor
    cdef const char* stop
    cdef Member member
    cdef str wrong = None
    for i in range(s.count):
        field = &s.fields[i]
        cursor = text + field.value
        stop = cursor + field.value_size
        if field.name_size == 10 and equals(text + field.name, 10, b"connection", 10):
            while next_member(&cursor, stop, &member):
                close = close or equals(member.at, member.size, b"close", 5)
                keep = keep or equals(member.at, member.size, b"keep-alive", 10)
        elif field.name_size == 10 and equals(text + field.name, 10, b"keep-alive", 10):
            while next_member(&cursor, stop, &member):
                if member.size > 8 and equals(member.at, 8, b"timeout=", 8):
                    head._keep_timeout = read_count(member.at + 8, member.size - 8)
                elif member.size > 4 and equals(member.at, 4, b"max=", 4):
                    head._keep_max = read_count(member.at + 4, member.size - 4)
        elif field.name_size == 17 and equals(text + field.name, 17, b"transfer-encoding", 17):
            coded = True
            while next_member(&cursor, stop, &member):
                codings += 1
                if equals(member.at, member.size, b"chunked", 7):
                    if chunked:
                        wrong = "the body is chunked twice"
                    chunked = True
                elif wrong is None:
                    wrong = refuse_coding(&member)
    head.persistent = not close and (head.version == 11 or keep)
    head._length = 0

    if head.status == 101:
        if not fact & ASKS_UPGRADE:
            return "unsupported: 101 Switching Protocols that was not asked for"
        head._framing = FRAMED_TUNNEL
    elif fact & IS_CONNECT and 200 <= head.status < 300:
        head._framing = FRAMED_TUNNEL
    elif fact & IS_HEAD or head.status == 204 or head.status == 304:
        head._framing = FRAMED_NONE
    elif coded:
        if head.version == 10:
            return "Transfer-Encoding in an HTTP/1.0 response"
        if s.http.flags & F_CONTENT_LENGTH:
            return "both Transfer-Encoding and Content-Length"
        if wrong is not None:
            return wrong
        if not chunked:
            return "an empty Transfer-Encoding"
        head._framing = FRAMED_CHUNKED
        head._length = -1
    elif s.http.flags & F_CONTENT_LENGTH:
        if s.http.content_length > <uint64_t>INT64_MAX:
            return "a Content-Length above 2**63-1"
        head._framing = FRAMED_LENGTH
        head._length = <long long>s.http.content_length
    else:
        head._length = -1
        if head.version == 10 or close or lenient & LENIENT_UNTIL_CLOSE:
            head._framing = FRAMED_CLOSE
        else:
            head._framing = FRAMED_NOT
    if head._framing >= FRAMED_CLOSE:
        head.persistent = False
    return None


cdef int read_count(const char* p, Py_ssize_t size) noexcept nogil:
    """A number in at most nine digits; -1 where it is none."""
    cdef int count = 0
    cdef Py_ssize_t i
    if size > 9:
        return -1
    for i in range(size):
        if not c'0' <= p[i] <= c'9':
            return -1
        count = 10 * count + (p[i] - c'0')
    return count


cdef str refuse_coding(Member* member):
    """What is wrong with a transfer coding other than chunked, in words that begin with "unsupported" where it is
    only unknown."""
    cdef Py_ssize_t i
    for i in range(member.size):
        if not is_tchar(<unsigned char>member.at[i]):
            return "a malformed transfer coding"
    return "unsupported transfer coding " + PyUnicode_DecodeLatin1(member.at, min(member.size, 40), NULL)
