"""What an export can fail with on purpose. Each becomes one code of the command line (`__main__.py`)."""


class HeaderError(ValueError):
    """The file is no checkpoint header: unreadable, cut short, or of another format."""


class OutputRefused(ValueError):
    """The output's place holds something that is not an older bundle."""


class UnsupportedStructure(ValueError):
    """The header is readable, but describes a network that no builder here makes."""
