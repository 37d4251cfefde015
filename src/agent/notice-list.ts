import { Outbox } from '../notices/index.ts'
import type { Agent } from './agent.ts'
import { targetText } from './config/notices.ts'
import { outboxDirectory } from './notice-outbox.ts'

export type NoticeLine = {
  readonly notice: string
  readonly to: string
  /** Events, or the cron expressions of its reports. */
  readonly tells: readonly string[]
  /** Names of the jobs that tell it. */
  readonly jobs: readonly string[]
  readonly waiting: number
  /** Since the last one that arrived. */
  readonly dropped: number
}

/** The notices of vcb.yaml and what waits for each. Changes nothing. */
export async function listNotices({ config, clock, log }: Pick<Agent, 'config' | 'clock' | 'log'>): Promise<readonly NoticeLine[]> {
  const outbox = new Outbox(outboxDirectory(config), { clock, log })
  return Promise.all(
    config.notices.map(async ({ name, to, digest, on }) => ({
      notice: name,
      to: targetText(to),
      tells: digest === undefined ? on : digest.cron.map((cron) => `report at ${cron}`),
      jobs: config.jobs.filter(({ notices }) => notices.includes(name)).map((job) => job.name),
      waiting: await outbox.size(name),
      dropped: await outbox.dropped(name),
    })),
  )
}
