-- Timers: effects that wait for their time, and are taken back in the transaction that makes them
-- pointless. They take their seq when they are due, so a reminder stands behind what happened
-- meanwhile. What is pointless by then is cancelled at send by its `valid_while`.

-- Sets timers of one locked stream; one of the same key is replaced. `local_at` is on the person's
-- own clock and follows him into another time zone; else `due_at` counts.
create function outbox._set_timers(
    stream uuid, keys text[], ids uuid[], topics text[], payloads jsonb[], valid_whiles jsonb[],
    due_at timestamptz[], local_at timestamp[], at timestamptz)
returns void language plpgsql as $$
#variable_conflict use_variable
begin
    insert into outbox.timer as t (bucket, stream, key, id, topic, payload, valid_while, due_at,
                                   local_at, at)
    select kernel.bucket_of(stream), stream, x.key, x.id, x.topic, x.payload, x.valid_while,
           x.due, x.local, at
    from unnest(keys, ids, topics, payloads, valid_whiles, due_at, local_at)
         as x(key, id, topic, payload, valid_while, due, local)
    on conflict on constraint timer_pkey do update
    set id = excluded.id, topic = excluded.topic, payload = excluded.payload,
        valid_while = excluded.valid_while, due_at = excluded.due_at,
        local_at = excluded.local_at, at = excluded.at;
end $$;

-- Takes back what has not left its timer yet. The stream is locked.
create function outbox._cancel_timers(stream uuid, keys text[])
returns int language plpgsql as $$
#variable_conflict use_variable
declare
    cancelled int;
begin
    delete from outbox.timer t
    where t.bucket = kernel.bucket_of(stream) and t.stream = stream and t.key = any (keys);
    get diagnostics cancelled = row_count;
    return cancelled;
end $$;

-- Timed effects that are due take their seq now, in the order in which they were due. Streams
-- first: whoever sets or cancels a timer holds the stream, and is passed over here.
create function outbox._ripen(at timestamptz, at_most int)
returns int language plpgsql as $$
#variable_conflict use_variable
declare
    locked uuid[];
    ripe   record;
begin
    select array_agg(l.stream) into locked from (
        select s.stream
        from (select distinct y.bucket, y.stream from (
                  select t.bucket, t.stream from outbox.timer t
                  where t.due_at <= at order by t.due_at limit at_most) y) d
        join outbox.stream s on s.bucket = d.bucket and s.stream = d.stream
        order by s.stream for update of s skip locked) l;
    if locked is null then
        return 0;
    end if;
    with gone as (
        delete from outbox.timer t using unnest(locked) u
        where t.bucket = kernel.bucket_of(u) and t.stream = u and t.due_at <= at
        returning t.*)
    select array_agg(g.stream order by g.due_at, g.id) as streams,
           array_agg(g.id order by g.due_at, g.id) as ids,
           array_agg(g.topic order by g.due_at, g.id) as topics,
           array_agg(g.payload order by g.due_at, g.id) as payloads,
           array_agg(g.valid_while order by g.due_at, g.id) as valid_whiles,
           count(*)::int as n
    into ripe from gone g;
    if ripe.n > 0 then
        perform outbox._append(ripe.streams, ripe.ids, ripe.topics, ripe.payloads,
            array_fill(null::text, array[ripe.n]), at, ripe.valid_whiles);
    end if;
    return ripe.n;
end $$;

-- What waits for its time in one stream, soonest first.
create function outbox.timers(stream uuid)
returns table (key text, id uuid, topic text, payload jsonb, due_at timestamptz)
language sql stable as $$
    select t.key, t.id, t.topic, t.payload, t.due_at from outbox.timer t
    where t.bucket = kernel.bucket_of(timers.stream) and t.stream = timers.stream
    order by t.due_at, t.id
$$;
