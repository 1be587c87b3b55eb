// pg-boss by its batch calls: its own worker loop waits half a second between two batches.
import PgBoss from "pg-boss";
import { inBatches, rounds } from "./rounds.mjs";

const BATCH = 500;
const QUEUE = "noop";
const boss = new PgBoss({ connectionString: process.env.DATABASE_URL, supervise: false });
boss.on("error", (error) => process.stderr.write(`${error}\n`));
await boss.start();
await boss.createQueue(QUEUE);

async function enqueue(jobs) {
  await inBatches(jobs, BATCH, (size) =>
    boss.insert(Array.from({ length: size }, (_, n) => ({ name: QUEUE, data: { n } }))),
  );
}

async function work(jobs) {
  let done = 0;
  const worker = async () => {
    while (done < jobs) {
      const batch = await boss.fetch(QUEUE, { batchSize: BATCH });
      done += batch.length;
      if (batch.length) await boss.complete(QUEUE, batch.map((job) => job.id));
    }
  };
  await Promise.all([worker(), worker()]);
}

await rounds(enqueue, work);
await boss.stop({ graceful: false });
