"""``python -m httpio`` is the command ``httpio``."""

from httpio.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
