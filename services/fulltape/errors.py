"""The errors that a person sees: the command line turns each into one line and an exit code."""


class FulltapeError(Exception):
    """Something that a person can mend; its text says what is wrong, where, and the mend."""

    exit_code = 1


class FeedError(FulltapeError):
    """A CryptoFeed file that can't be used; the text has a line per mistake: where, which field, what is allowed."""

    exit_code = 2


class ConfigurationError(FulltapeError):
    """The surroundings are not as needed: no Java, a port in use, a credential file that is missing or unreadable."""

    exit_code = 2


class ExchangeError(FulltapeError):
    """The exchange refused what was asked of it: an unknown product, a malformed subscription."""


class KafkaUnavailableError(FulltapeError):
    """No broker answered, or it refused the credentials, within the time allowed."""


class FencedError(FulltapeError):
    """Another producer has taken over this shard; this one must stop and must not write again."""

    exit_code = 75


class TapeLostRecordsError(FulltapeError):
    """The broker lost records that it had acknowledged; the next start continues from where the tape now ends."""
