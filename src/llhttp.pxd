"""The part of llhttp's interface that the parser uses (vendor/llhttp/include/llhttp.h)."""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint64_t


cdef extern from "llhttp.h" nogil:
    ctypedef struct llhttp_t:
        void* data
        uint64_t content_length
        uint8_t http_major
        uint8_t http_minor
        uint16_t flags
        uint16_t status_code

    ctypedef int (*llhttp_data_cb)(llhttp_t*, const char* at, size_t length) noexcept nogil
    ctypedef int (*llhttp_cb)(llhttp_t*) noexcept nogil

    ctypedef struct llhttp_settings_t:
        llhttp_data_cb on_header_field
        llhttp_data_cb on_header_value
        llhttp_cb on_header_value_complete
        llhttp_cb on_headers_complete
        llhttp_data_cb on_body
        llhttp_cb on_chunk_header
        llhttp_data_cb on_chunk_extension_name
        llhttp_data_cb on_chunk_extension_value
        llhttp_cb on_message_complete

    ctypedef enum llhttp_errno_t:
        HPE_OK
        HPE_PAUSED
        HPE_USER

    ctypedef enum llhttp_type_t:
        HTTP_RESPONSE

    ctypedef enum llhttp_flags_t:
        F_CHUNKED
        F_CONTENT_LENGTH
        F_TRANSFER_ENCODING

    void llhttp_settings_init(llhttp_settings_t*)
    void llhttp_init(llhttp_t*, llhttp_type_t, const llhttp_settings_t*)
    void llhttp_reset(llhttp_t*)
    void llhttp_resume(llhttp_t*)
    llhttp_errno_t llhttp_execute(llhttp_t*, const char* data, size_t length)
    const char* llhttp_get_error_pos(const llhttp_t*)
    const char* llhttp_get_error_reason(const llhttp_t*)
    void llhttp_set_lenient_chunked_length(llhttp_t*, int)
    void llhttp_set_lenient_headers(llhttp_t*, int)
    void llhttp_set_lenient_version(llhttp_t*, int)
    void llhttp_set_lenient_optional_cr_before_lf(llhttp_t*, int)
    void llhttp_set_lenient_spaces_after_chunk_size(llhttp_t*, int)
