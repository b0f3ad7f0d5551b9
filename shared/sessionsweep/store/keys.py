"""Every key and channel in Redis: its name, type, writer and reader. No other file formats a key.

`{P}` is a partition's hash tag, so that all keys of one operation live in one Redis Cluster slot; `ss` stands for
the namespace. docs/keyspace.md shows the literal commands of each operation.

    ss:{07}:s:<sid>      string      a live session: 72-byte header, then user, client, node, data
    ss:{07}:w            sorted set  the wheel's slot ends (score = end, ms)
    ss:{07}:w:<end>      list        the ids filed in that slot
    ss:{07}:r:<sid>      hash        resource id → packed record; `@` its locations; `@k` keep-alives and pins
    ss:{07}:i            sorted set  overdue time → `<sid> <rid>` of uncommitted intents
    ss:{07}:t:<sid>      hash        tombstone of an ended session that owned something; then its receipt (TTL)
    ss:{07}:q:<location> sorted set  next attempt → sid: the reclaim queue
    ss:{07}:b:<location>:<lease> list  the ids of one leased batch; its TTL is the lease
    ss:{07}:l            hash        the locations that have a queue, or had one; without dead processes
    ss:{07}:dl           sorted set  since → `<sid> <rid>`: dead letters
    ss:{07}:o            list        outbox: places to give back in users' books and the book of all
    ss:{07}:a:<hash>     string      alias of an app's own key → sid
    ss:{07}:c            hash        counters and books
    ss:{07}:h            hash        run id last seen by this partition, since when; idle ends held until
    ss:{07}:see:<volume>:<run id> sorted set  first sightings of orphan candidates (TTL)
    ss:{07}:ev, ss:{g}:ev  stream    events, capped: `<field> <value>` as model/events.py reads them
    ss:{07}:once:<what>  string      when an event was told that is told at most once a second (TTL); in `{g}`, too
    ss:{u<hash>}:u:<user> sorted set a user's sessions: deadline of the reservation, or 10^15 + when confirmed
    ss:{u<hash>}:uq:<user> hash      the user's bytes and resources: `<sid> <rid>` → bytes, `#` → their sum
    ss:{g}:total         sorted set  the same book for all sessions
    ss:{g}:meta          hash        deployment id, schema, partitions ever used, high-water mark of time, passes
    ss:{g}:holds         hash        scope → why destruction is stopped
    ss:{g}:marks         hash        volume id → the time at which it was last marked
    ss:{g}:vols          hash        volume id → name, nodes, ephemeral
    ss:{g}:mounts        hash        `<node>/<name>` → volume id
    ss:{g}:n             hash        node → last heartbeat and what it mounts
    ss:{g}:p             hash        web process → last heartbeat
    ss:{g}:scans, mend   hash        how far the orphan walks and the anti-entropy scan have come
    ss:{g}:passes, alarms hash       results of passes and of requests; alarms
    ss:{g}:trend:<step>  hash        number of the minute, hour or day → snapshot of the books' sums
    ss:{g}:l:<name>      string      a lease by name (TTL)
    ss:nudge:<location>  channel     something at that location is due now
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from sessionsweep.model.ids import partition_of

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Keys:
    """Formats the keys of one namespace."""

    namespace: str = "ss"

    def prefix(self, partition: str) -> str:
        """What all keys of a partition begin with; scripts compute their further keys from it."""
        return f"{self.namespace}:{{{partition}}}:"

    def session(self, session_id: str) -> str:
        """string: a live session."""
        return f"{self.namespace}:{{{session_id[:2]}}}:s:{session_id}"

    def resources(self, session_id: str) -> str:
        """hash: what a session owns."""
        return f"{self.prefix(partition_of(session_id))}r:{session_id}"

    def tombstone(self, session_id: str) -> str:
        """hash: an ended session's debt, then its receipt."""
        return f"{self.prefix(partition_of(session_id))}t:{session_id}"

    def wheel(self, partition: str) -> str:
        """sorted set: slot ends."""
        return self.prefix(partition) + "w"

    def intents(self, partition: str) -> str:
        """sorted set: uncommitted intents by overdue time."""
        return self.prefix(partition) + "i"

    def queue(self, partition: str, location: str) -> str:
        """sorted set: the reclaim queue of one location."""
        return f"{self.prefix(partition)}q:{location}"

    def batch(self, partition: str, location: str, lease: str) -> str:
        """list with TTL: one leased batch."""
        return f"{self.prefix(partition)}b:{location}:{lease}"

    def locations(self, partition: str) -> str:
        """hash: which locations have a queue."""
        return self.prefix(partition) + "l"

    def dead_letters(self, partition: str) -> str:
        """sorted set: resources that failed too often."""
        return self.prefix(partition) + "dl"

    def outbox(self, partition: str) -> str:
        """list: releases owed to the books of users and of all sessions."""
        return self.prefix(partition) + "o"

    def alias(self, partition: str, digest: str) -> str:
        """string: an app's own key, hashed → session id."""
        return f"{self.prefix(partition)}a:{digest}"

    def counters(self, partition: str) -> str:
        """hash: counters and books."""
        return self.prefix(partition) + "c"

    def held(self, partition: str) -> str:
        """hash: run id last seen and since when, idle ends held until."""
        return self.prefix(partition) + "h"

    def sightings(self, partition: str, volume: str, run_id: str) -> str:
        """sorted set with TTL: first sightings of orphan candidates."""
        return f"{self.prefix(partition)}see:{volume}:{run_id}"

    def events(self, partition: str) -> str:
        """stream: events."""
        return self.prefix(partition) + "ev"

    def user_book(self, user: str) -> str:
        """sorted set: a user's sessions. The hash tag spreads users over the cluster's slots."""
        return f"{self.namespace}:{{u{self._user_digest(user)}}}:u:{user}"

    def user_quota(self, user: str) -> str:
        """hash: what a user's sessions hold together."""
        return f"{self.namespace}:{{u{self._user_digest(user)}}}:uq:{user}"

    def total_book(self) -> str:
        """sorted set: all sessions, where their number is limited."""
        return self.globals("total")

    def globals(self, name: str) -> str:
        """meta, holds, marks, vols, mounts, n, p, l:<name>: what belongs to no partition."""
        return f"{self.namespace}:{{g}}:{name}"

    def nudge(self, location: str) -> str:
        """channel: something at that location is due now."""
        return f"{self.namespace}:nudge:{location}"

    @staticmethod
    def _user_digest(user: str) -> str:
        return hashlib.blake2b(user.encode(), digest_size=4).hexdigest()


def partition_name(number: int) -> str:
    """The two hex digits of partition `number` (0 to 255)."""
    return f"{number:02x}"
