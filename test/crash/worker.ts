import { flowNamed } from './flows.ts'
import { liveCut, recordFlow } from './live-cut.ts'
import { placeIn } from './place.ts'
import type { WorkerAnswer, WorkerRequest } from './pool.ts'

/* One of the processes that live the cuts: its labs, its checks and the commands it starts are on one core, the other worker's on another. */
const [, , root = '', command = ''] = process.argv
const place = placeIn(root, command)

process.on('message', (request: WorkerRequest) => void answer(request))

async function answer(request: WorkerRequest): Promise<void> {
  // Nobody waits any more when the run was given up meanwhile.
  const reply = (message: WorkerAnswer): void => void (process.connected && process.send?.(message))
  try {
    const flow = flowNamed(request.flow)
    if (request.task === undefined) reply({ recorded: await recordFlow(place, flow) })
    else reply({ result: await liveCut(place, flow, request.task) })
  } catch (error) {
    reply({ error: error instanceof Error ? (error.stack ?? error.message) : String(error) })
  }
}
