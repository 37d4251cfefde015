import type { Command } from 'commander'
import type { ReadEvent } from '../api/index.ts'
import { formatBytes, isAgentError, systemClock } from '../core/index.ts'
import { type CliIo, printable } from './io.ts'
import { formatMoment } from './moments.ts'
import { examples, withCommon } from './options.ts'
import { createProgress, type Progress } from './progress.ts'
import { type AgentFlags, needAgent, withRunningAgent } from './running-agent.ts'

/** Pause before a connection that broke is made again, ms. */
const AGAIN_MS = 2000

type Event = ReadEvent['event']

export function registerWatch(program: Command, io: CliIo): void {
  withCommon(
    withRunningAgent(program.command('watch').description('what the running agent does, as it happens, until interrupted'), {
      alone: false,
    }),
  )
    .addHelpText(
      'after',
      examples(['vcb watch', 'vcb watch --json']) +
        '\nOn a terminal a bar shows how far each run is, its rate, and when it will have ended. --json prints one event a line.\n',
    )
    .action(async (flags: AgentFlags) => {
      await using client = await needAgent(io, flags)
      using progress = await createProgress(io, systemClock, flags.json !== true)
      const zone = Temporal.Now.timeZoneId()
      const show = (event: Event): void => {
        if (flags.json === true) io.out(`${JSON.stringify(event)}\n`)
        else showEvent(event, { io, progress, zone })
      }
      let last: string | undefined
      let connected = false
      while (!io.signal.aborted) {
        try {
          for await (const { id, event } of client.events(last, { signal: io.signal })) {
            connected = true
            last = id ?? last
            show(event)
          }
        } catch (error) {
          if (io.signal.aborted) return
          if (!connected || !isAgentError(error, 'UNAVAILABLE')) throw error
          if (flags.json !== true) io.err(`${error.message}\n`)
          await systemClock.sleep(AGAIN_MS, { signal: io.signal }).catch(() => undefined) // interrupted: the loop ends
        }
      }
    })
}

function showEvent(event: Event, { io, progress, zone }: { readonly io: CliIo; readonly progress: Progress; readonly zone: string }): void {
  if (event.type === 'progress') {
    progress.update(event.vm.name, event.progress.doneBytes, event.progress.totalBytes)
    return
  }
  if (event.type === 'ended') progress.finish(event.record.vm.name)
  const line = lineOf(event)
  io.out(`${event.type === 'missed' ? '' : `${formatMoment(new Date(event.at), zone)}  `}${printable(line)}\n`)
}

function lineOf(event: Exclude<Event, { readonly type: 'progress' }>): string {
  switch (event.type) {
    case 'missed':
      return 'Something before this was missed; "vcb status" tells how it stands.'
    case 'waiting':
      return `${event.vm.name}  waits${ofJob(event.job)}`
    case 'begun':
      return `${event.vm.name}  begins${event.mode === undefined ? '' : ` (${event.mode})`}${ofJob(event.job)}`
    case 'notice':
      return `${event.level === 'info' ? '' : `${event.level}: `}${event.message}`
    case 'ended': {
      const { vm, result, readBytes, storedBytes, error } = event.record
      const why = error === undefined ? '' : `: ${error.message}`
      return `${vm.name}  ${result}, ${formatBytes(readBytes)} read, ${formatBytes(storedBytes)} stored${why}`
    }
  }
}

const ofJob = (job: string | undefined): string => (job === undefined ? '' : `, job ${job}`)
