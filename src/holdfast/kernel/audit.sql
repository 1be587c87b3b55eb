-- Audit: everything leaves a trace. Append-only, by privilege and by trigger; written by the verbs
-- in the transaction of the move, so a move whose trace cannot be written did not happen.

-- Arrays in, one row each. `ids` are the events' own ids (shared with the effect they cause).
create function audit._record(
    entity text, action text, ids uuid[], entity_ids uuid[], from_statuses text[],
    to_statuses text[], actors text[], reasons text[], request_ids text[], at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status,
                             actor, reason, request_id, at)
    select kernel.bucket_of(x.id), x.entity_id, x.id, entity, action, x.from_status, x.to_status,
           x.actor, x.reason, x.request_id, at
    from unnest(ids, entity_ids, from_statuses, to_statuses, actors, reasons, request_ids)
         as x(id, entity_id, from_status, to_status, actor, reason, request_id);
end $$;

-- A move made by hand-written SQL leaves its trace too; the guards call this.
create function audit._trace_raw(machine text, row_id uuid, from_status text, to_status text)
returns void language plpgsql as $$
begin
    insert into audit.event (bucket, entity_id, id, entity, action, from_status, to_status, actor,
                             at)
    values (kernel.bucket_of(row_id), row_id, kernel.new_id(kernel.bucket_of(row_id)), machine,
            machine || '.raw_sql', from_status, to_status, 'sql:' || session_user, kernel.now());
end $$;

-- The trail of one entity, oldest first.
create function audit.trail(entity_id uuid)
returns setof audit.event language sql stable as $$
    select e.* from audit.event e
    where e.bucket = kernel.bucket_of(trail.entity_id) and e.entity_id = trail.entity_id
    order by e.id
$$;

-- What happened lately, newest first, before a moment and an id (null: from now on back). Looks
-- into ever longer spans until there is enough: what is asked for is near, and the whole is long.
create function audit.recent(before_at timestamptz, before uuid, at_most int)
returns setof audit.event language plpgsql stable as $$
#variable_conflict use_column
declare
    latest timestamptz := coalesce(before_at, kernel.now());
    span   interval := '1 hour';
    found  audit.event[];
begin
    loop
        found := array(
            select e from audit.event e
            where e.at > latest - span and e.at <= latest
              and (e.at, e.id) < (latest, coalesce(before, 'ffffffff-ffff-ffff-ffff-ffffffffffff'))
            order by e.at desc, e.id desc
            limit at_most);
        exit when cardinality(found) >= at_most or span > '100 years';
        span := span * 24;
    end loop;
    return query select * from unnest(found);
end $$;
