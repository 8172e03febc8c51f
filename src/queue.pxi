"""The outstanding requests, oldest first, each with what the parser must know of it."""


cdef class RequestQueue:
    """A ring that grows: any object, and one fact about it."""

    cdef list items
    cdef unsigned char* facts
    cdef Py_ssize_t first, waiting, room    # room: a power of two

    def __cinit__(self):
        self.room = 16
        self.items = [None] * self.room
        self.facts = <unsigned char*>PyMem_Malloc(self.room)
        if self.facts is NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.facts)

    cdef int push(self, item, unsigned char fact) except -1:
        cdef Py_ssize_t slot
        if self.waiting == self.room:
            self.grow()
        slot = (self.first + self.waiting) & (self.room - 1)
        self.items[slot] = item
        self.facts[slot] = fact
        self.waiting += 1
        return 0

    cdef int grow(self) except -1:
        cdef unsigned char* facts = <unsigned char*>PyMem_Malloc(2 * self.room)
        cdef Py_ssize_t i
        if facts is NULL:
            raise MemoryError
        for i in range(self.room):    # the ring is full
            facts[i] = self.facts[(self.first + i) & (self.room - 1)]
        self.items = self.items[self.first:] + self.items[:self.first] + [None] * self.room
        PyMem_Free(self.facts)
        self.facts = facts
        self.first = 0
        self.room *= 2
        return 0

    cdef int push_front(self, item, unsigned char fact) except -1:
        if self.waiting == self.room:
            self.grow()
        self.first = (self.first - 1) & (self.room - 1)
        self.items[self.first] = item
        self.facts[self.first] = fact
        self.waiting += 1
        return 0

    cdef inline object oldest(self):
        return self.items[self.first]

    cdef inline unsigned char oldest_fact(self) noexcept:
        return self.facts[self.first]

    cdef inline int pop(self) except -1:
        self.items[self.first] = None
        self.first = (self.first + 1) & (self.room - 1)
        self.waiting -= 1
        return 0

    cdef tuple as_tuple(self):
        cdef Py_ssize_t i
        return tuple([self.items[(self.first + i) & (self.room - 1)] for i in range(self.waiting)])
