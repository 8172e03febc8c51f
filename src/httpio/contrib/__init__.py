"""httpio under other libraries: one module for each, named like it, which imports it."""
