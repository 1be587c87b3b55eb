// The peer's side of a measurement: a number of jobs comes in, a line each; how many seconds each
// half took goes out.
import { createInterface } from "node:readline";

/** Answer rounds until the driver closes the pipe. `enqueue` and `work` take a number of jobs. */
export async function rounds(enqueue, work) {
  for await (const line of createInterface({ input: process.stdin })) {
    const jobs = Number(line);
    const began = performance.now();
    await enqueue(jobs);
    const between = performance.now();
    await work(jobs);
    const seconds = { enqueue: (between - began) / 1000, work: (performance.now() - between) / 1000 };
    process.stdout.write(JSON.stringify(seconds) + "\n");
  }
}

/** Hand out `jobs` in batches to two senders at a time: the machine has two cores. */
export async function inBatches(jobs, size, send) {
  let left = jobs;
  const sender = async () => {
    while (left > 0) {
      const batch = Math.min(size, left);
      left -= batch;
      await send(batch);
    }
  };
  await Promise.all([sender(), sender()]);
}
