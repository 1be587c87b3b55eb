-- What happened lately, whatever it happened to: rows of the audit are written in the order of
-- their time, so a summary of each stretch of the table finds a span, for next to nothing.

create index event_recent on audit.event using brin (at) with (pages_per_range = 32);
