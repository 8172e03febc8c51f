"""One set of scenarios over every face of httpio: what a face does must not depend on how it waits."""
