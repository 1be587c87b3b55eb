-- A stream's row no longer counts: the next seq is the one after the last effect, read under the
-- row's lock. Counting rewrote the row with every effect, and under a snapshot that somebody holds
-- open a row rewritten a thousand times is a chain of a thousand dead versions.

alter table outbox.stream drop column next_seq;
