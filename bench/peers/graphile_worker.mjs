// graphile-worker as its page on performance runs it: four instances of 24, a local queue, batched ends.
import { Logger, makeWorkerUtils, run } from "graphile-worker";
import { inBatches, rounds } from "./rounds.mjs";

const BATCH = 2000; // of 500, 2,000, 5,000 and 20,000 the fastest here
const INSTANCES = 4;
const preset = {
  worker: {
    connectionString: process.env.DATABASE_URL,
    concurrentJobs: 24,
    maxPoolSize: 25,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
    logger: new Logger(() => () => {}),
  },
};
const utils = await makeWorkerUtils({ preset });
await utils.migrate();

async function enqueue(jobs) {
  await inBatches(jobs, BATCH, (size) =>
    utils.addJobs(
      Array.from({ length: size }, (_, n) => ({ identifier: "noop", payload: { n } })),
    ),
  );
}

async function work(jobs) {
  let done = 0;
  let tell;
  const all = new Promise((resolve) => (tell = resolve));
  const noop = async () => {
    if (++done === jobs) tell();
  };
  const start = () => run({ preset, taskList: { noop }, noHandleSignals: true });
  const runners = await Promise.all(Array.from({ length: INSTANCES }, start));
  await all;
  await Promise.all(runners.map((runner) => runner.stop())); // writes the last ends
}

await rounds(enqueue, work);
await utils.release();
