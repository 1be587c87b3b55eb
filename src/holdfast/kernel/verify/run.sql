-- Verify: the promises, counted in a live database.
--
-- An invariant is a stable function `(first, last)` over a range of buckets that returns what it
-- looked at, how much of it breaks the promise, and one example. The kernel's stand in this schema;
-- a system adds its own as `orders._verify_…(first, last)` and is found by that name. Nothing is
-- locked: every call reads one snapshot, in which what commits together is whole, and a large
-- database is walked in slices of buckets, so that no snapshot is held for long.

-- Every invariant of this installation.
create function verify.invariants()
returns table (name text, about text, slices int)
language sql stable as $$
    select case n.nspname when 'verify' then substr(p.proname, 8)
                else n.nspname || '.' || substr(p.proname, 9) end,
           coalesce(obj_description(p.oid, 'pg_proc'), ''),
           (select least(256, greatest(1, ceil(max(c.reltuples) / 200000)))::int
            from pg_catalog.pg_class c
            where c.oid in ('ledger.entry'::regclass, 'audit.event'::regclass,
                            'queue.job'::regclass, 'outbox.effect'::regclass))
    from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where (n.nspname = 'verify' and p.proname like '\_check\_%')
       or (n.nspname <> 'verify' and p.proname like '\_verify\_%'
           and n.nspname in (select split_part(m.entity, '.', 1) from transitions.machine m))
    order by n.nspname <> 'verify', 1
$$;

-- Counts one invariant over the buckets from `first` to `last`.
create function verify.count(name text, first int, last int)
returns table (checked bigint, violations bigint, example text)
language plpgsql stable as $$
declare
    called regprocedure;
begin
    if position('.' in name) = 0 then
        called := format('verify.%I(int, int)', '_check_' || name)::regprocedure;
    else
        called := format('%I.%I(int, int)', split_part(name, '.', 1),
                         '_verify_' || split_part(name, '.', 2))::regprocedure;
    end if;
    return query execute format('select checked, violations, example from %s($1, $2)',
                                called::oid::regproc) using first, last;
end $$;
