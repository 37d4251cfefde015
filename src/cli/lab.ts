import { readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { AgentError, formatBytes, fromErrno, systemClock } from '../core/index.ts'
import type { ActiveFault, Capability, DiskDigest, FaultRule, FsckReport, LabState, SnapshotDigests, WriteResult } from '../lab/index.ts'
import { type CliIo, createOutput, printable, renderTable } from './io.ts'
import { examples } from './options.ts'
import type { ExitStatus } from './program.ts'

type LabFlags = { readonly dir?: string | undefined; readonly json?: boolean | undefined }
type UpFlags = LabFlags & {
  readonly scenario?: string | undefined
  readonly port?: string | undefined
  readonly kind?: 'vcenter' | 'esxi' | undefined
}
type WriteFlags = LabFlags & {
  readonly records?: string | undefined
  readonly bytes?: string | undefined
  readonly percent?: string | undefined
  readonly disk?: string | undefined
  readonly areas?: string | undefined
  readonly unit?: string | undefined
  readonly seed?: string | undefined
}
type DigestFlags = LabFlags & {
  readonly disk?: string | undefined
  readonly snapshot?: string | undefined
  readonly atSnapshots?: boolean | undefined
}
type FaultFlags = LabFlags & Readonly<Record<string, string | boolean | undefined>>

/** `vcb lab …`: the lab as a process of its own, and what it answers outside its protocols. */
export function registerLab(program: Command, io: CliIo, status: ExitStatus): void {
  const lab = program.command('lab').description('a miniature vCenter and ESXi with real disks, to rehearse on')
  const sub = (usage: string, description: string): Command => {
    const command = lab.command(usage).description(description)
    command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err })
    return command
      .option('--dir <dir>', 'the lab’s directory (VCB_LAB_DIR); a directory of yours under the temporary one when not set')
      .option('--json', 'one JSON document on standard output')
  }
  const ask = <T>(flags: LabFlags, verb: string, body: object): Promise<T> => call<T>(directoryOf(io, flags), verb, body)

  sub('up', 'run the lab in the foreground until interrupted')
    .option('--scenario <file>', 'YAML or JSON, see docs/lab-scenario.md; the default scenario when not set')
    .option('--port <n>', 'port of the vCenter endpoint, the ESXi endpoint takes the next; free ones when not set')
    .option('--kind <kind>', 'vcenter or esxi only; both when not set')
    .addHelpText('after', examples(['vcb lab up', 'vcb lab up --dir /srv/lab --scenario big.yaml --port 8443 --json']))
    .action(async (flags: UpFlags) => {
      const { startLab } = await import('../lab/index.ts')
      const output = createOutput(io, flags.json === true)
      if (flags.kind !== undefined && flags.kind !== 'vcenter' && flags.kind !== 'esxi')
        throw new AgentError('USAGE', `There is no kind of lab "${String(flags.kind)}".`)
      const note = (message: string): void => output.note(`lab: ${message}`)
      await using running = await startLab({
        directory: directoryOf(io, flags),
        scenario: flags.scenario,
        port: whole(flags.port, '--port'),
        kind: flags.kind,
        clock: systemClock,
        log: { debug: () => undefined, info: () => undefined, warn: note, error: note },
      })
      const { vcenter, esxi } = running.endpoints
      const ready = {
        url: vcenter.url,
        thumbprint: vcenter.thumbprint,
        sha1: vcenter.sha1,
        user: running.user,
        passwordFile: running.passwordFile,
        restricted: running.restricted,
        datastores: running.datastores,
        esxi: { url: esxi.url, thumbprint: esxi.thumbprint, sha1: esxi.sha1, user: 'root', passwordFile: running.passwordFile },
        nfc: running.endpoints.nfc,
        ssh: { hosts: running.endpoints.ssh, user: 'root', keyFile: running.sshKeyFile, passwordFile: running.passwordFile },
        directory: running.directory,
        pid: process.pid,
      }
      output.result(ready, () =>
        [
          `vCenter     ${ready.url}   ${ready.user}, password in ${ready.passwordFile}`,
          `            thumbprint ${ready.thumbprint}`,
          `ESXi        ${esxi.url}   root, the same password`,
          `            thumbprint ${esxi.thumbprint}`,
          `NFC         ${ready.nfc.host}:${ready.nfc.port} of the hosts`,
          ...ready.ssh.hosts.map(
            (shell) =>
              `SSH         ${shell.address}:${shell.port} of ${shell.host}, root, key ${ready.ssh.keyFile}, host key ${shell.hostKey}`,
          ),
          ...Object.entries(ready.datastores).map(([name, path]) => `datastore   ${name} in ${path}`),
          'Stop it with Ctrl-C; the next "vcb lab up" goes on where this one ended.',
        ].join('\n'),
      )
      await new Promise<void>((resolve) => {
        if (io.signal.aborted) resolve()
        else io.signal.addEventListener('abort', () => resolve(), { once: true })
      })
    })

  sub('state', 'snapshots, locks, leases, tasks, sessions and faults right now').action(async (flags: LabFlags) => {
    const state = await ask<LabState>(flags, 'state', {})
    createOutput(io, flags.json === true).result(state, () => stateText(state))
  })

  sub('write', 'let the guest write: numbered records, or random data to one disk')
    .argument('<vm>', 'name, moref or instance uuid')
    .option('--records <n>', 'records on every disk; 1 when nothing else is asked for')
    .option('--bytes <n>', 'about so many bytes of random data, scattered over one disk')
    .option('--percent <n>', 'so much of one disk, scattered')
    .option('--areas <list>', 'exactly these areas of one disk: OFFSET+LENGTH,…')
    .option('--disk <key>', 'device key; the first disk when not set')
    .option('--unit <bytes>', 'size of one scattered write; 65536 when not set')
    .option('--seed <n>', 'repeatable random data')
    .action(async (vm: string, flags: WriteFlags) => {
      const write = {
        records: whole(flags.records, '--records'),
        bytes: whole(flags.bytes, '--bytes'),
        percent: decimal(flags.percent, '--percent'),
        disk: whole(flags.disk, '--disk'),
        unit: whole(flags.unit, '--unit'),
        seed: whole(flags.seed, '--seed'),
        areas: flags.areas?.split(',').map(area),
      }
      const result = await ask<WriteResult>(flags, 'write', { vm, write })
      createOutput(io, flags.json === true).result(result, () =>
        [
          `${printable(result.vm)}: last record ${result.lastRecord}`,
          ...result.written.map((disk) => `  disk ${disk.key}: ${formatBytes(disk.bytes)} in ${disk.areas} areas`),
        ].join('\n'),
      )
    })

  sub('sha256', 'digests of a VM’s disks, now, of a snapshot, or as recorded when snapshots were made')
    .argument('<vm>', 'name, moref or instance uuid')
    .option('--disk <key>', 'only this device key')
    .option('--snapshot <name>', 'the frozen image of this snapshot, by name or moref')
    .option('--at-snapshots', 'what was recorded at each snapshot, also of snapshots that are gone')
    .action(async (vm: string, flags: DigestFlags) => {
      const output = createOutput(io, flags.json === true)
      if (flags.atSnapshots === true) {
        const digests = await ask<SnapshotDigests[]>(flags, 'digests', { vm })
        output.result({ vm, digests }, () =>
          digests.map((at) => `${at.createdAt}  ${printable(at.name)}\n${digestText(at.disks)}`).join('\n'),
        )
        return
      }
      const disks = await ask<DiskDigest[]>(flags, 'sha256', { vm, disk: whole(flags.disk, '--disk'), snapshot: flags.snapshot })
      output.result({ vm, disks }, () => digestText(disks))
    })

  sub('fsck', 'check the guest’s records on every disk')
    .argument('<vm>', 'name, moref or instance uuid')
    .option('--snapshot <name>', 'the frozen image of this snapshot')
    .action(async (vm: string, flags: DigestFlags) => {
      const report = await ask<FsckReport>(flags, 'fsck', { vm, snapshot: flags.snapshot })
      if (!report.ok) status.exit = new AgentError('INTEGRITY', '').exit
      createOutput(io, flags.json === true).result(report, () =>
        [
          `${printable(report.vm)}: ${report.ok ? 'every record intact' : 'DAMAGED'}; ${report.sameRecord ? 'all disks end with the same record' : 'the disks end with different records'}`,
          ...report.disks.map(
            (disk) =>
              `  ${disk.label}  last record ${disk.lastRecord}, ${disk.records} checked${disk.problems.map((problem) => `\n    ${printable(problem)}`).join('')}`,
          ),
        ].join('\n'),
      )
    })

  sub('workload', 'set how many records a second the guest writes')
    .argument('<vm>', 'name, moref or instance uuid')
    .argument('<rate>', 'records a second; 0 stops it')
    .action(async (vm: string, rate: string, flags: LabFlags) => {
      await ask(flags, 'workload', { vm, rate: decimal(rate, 'rate') })
      createOutput(io, flags.json === true).result({ vm, rate: Number(rate) }, () => '')
    })

  const fault = sub('fault', 'set, list and clear fault rules: fault add, fault list, fault clear [ID]')
    .argument('<verb>', 'add, list or clear')
    .argument('[id]', 'of the rule to clear; all when not given')
  for (const [flag, text] of RULE_FLAGS) fault.option(`--${flag}`, text)
  fault
    .addHelpText(
      'after',
      examples([
        'vcb lab fault add --on CreateSnapshot_Task --nth 1 --task-error FilesystemQuiesceFault',
        'vcb lab fault add --on folder:GET --object "db01*" --cut-after-bytes 1000000 --times 2',
        'vcb lab fault add --object web01 --changed-areas miss',
        'vcb lab fault clear',
      ]),
    )
    .action(async (verb: string, id: string | undefined, flags: FaultFlags) => {
      const output = createOutput(io, flags.json === true)
      if (verb === 'add') {
        const added = await ask<string>(flags, 'fault-add', { rule: ruleOf(flags) })
        output.result({ id: added }, () => added)
      } else if (verb === 'list') {
        const faults = await ask<ActiveFault[]>(flags, 'fault-list', {})
        output.result({ faults }, () =>
          renderTable(
            ['ID', 'SEEN', 'STRUCK', 'RULE'],
            faults.map((each) => [each.id, String(each.seen), String(each.struck), JSON.stringify(each.rule)]),
          ),
        )
      } else if (verb === 'clear') {
        await ask(flags, 'fault-clear', { id })
        output.result({ cleared: id ?? 'all' }, () => '')
      } else throw new AgentError('USAGE', `There is no "vcb lab fault ${verb}".`)
    })

  sub('capabilities', 'what the lab simulates and what it does not').action(async (flags: LabFlags) => {
    const { labCapabilities } = await import('../lab/index.ts')
    const capabilities = labCapabilities()
    createOutput(io, flags.json === true).result({ capabilities }, () => capabilityText(capabilities))
  })
}

/** Options of `fault add`, one for each field of a rule. */
const RULE_FLAGS: readonly (readonly [flag: string, text: string])[] = [
  ['on <what>', 'SOAP method, folder:GET, folder:PUT, nfc:GET, nfc:POST, a step of NFC (nfc:open), or a glob'],
  ['object <glob>', 'moref, VM name or file the rule is limited to'],
  ['nth <n>', 'only the n-th match'],
  ['times <n>', 'at most so often'],
  ['probability <p>', '0 to 1'],
  ['endpoint <kind>', 'vcenter or esxi'],
  ['delay-ms <n>', 'wait before serving'],
  ['cut <when>', 'cut the connection before or after the work'],
  ['expire-session', 'end the caller’s session'],
  ['fault <name>', 'answer with this vim25 fault'],
  ['task-error <name>', 'let the task end with this fault'],
  ['task-ms <n>', 'let the task take so long'],
  ['queue-ms <n>', 'leave the task in the queue for so long'],
  ['forget-task', 'forget the task while the work goes on'],
  ['message <text>', 'text of the fault'],
  ['status <n>', 'HTTP status for folder and nfc'],
  ['cut-after-bytes <n>', 'cut a download after n bytes'],
  ['short-after-bytes <n>', 'end a download early but cleanly'],
  ['refuse-range', 'answer a Range request with the whole file'],
  ['changed-areas <how>', 'lie-end, zero-length, miss, one-area, small-pages, noTrack, cannotGetChanges'],
  ['consolidation-needed', 'a removal leaves its redo logs'],
  ['quiesce <how>', 'timeout, application or silent'],
  ['datastore-full <name>', 'no space on this datastore'],
  ['lock-held', 'another host holds the VM’s disks'],
  ['lease <quirk>', 'what an export lease does wrong, see docs/lab-scenario.md'],
  ['ssh <what>', 'what a host’s SSH server does wrong: otherHostKey, refuse, sessions, missing, status, busy, cutInput'],
  ['nfc <quirk>', 'what the NFC server does wrong at a step, see docs/lab-scenario.md'],
  ['value <n>', 'the number such a rule needs'],
]
const NUMBERS = new Set([
  'nth',
  'times',
  'probability',
  'delayMs',
  'taskMs',
  'queueMs',
  'status',
  'cutAfterBytes',
  'shortAfterBytes',
  'value',
])

function ruleOf(flags: FaultFlags): FaultRule {
  const rule: Record<string, string | number | boolean> = {}
  for (const [flag] of RULE_FLAGS) {
    const name = (flag.split(' ')[0] ?? '').replace(/-([a-z])/g, (_whole, letter: string) => letter.toUpperCase())
    const value = flags[name]
    if (value !== undefined) rule[name] = NUMBERS.has(name) && typeof value === 'string' ? (decimal(value, `--${flag}`) ?? 0) : value
  }
  return rule
}

function directoryOf(io: CliIo, flags: LabFlags): string {
  const own = typeof process.getuid === 'function' ? process.getuid() : 'me'
  return flags.dir ?? io.environment['VCB_LAB_DIR'] ?? join(tmpdir(), `vcb-lab-${own}`)
}

/** Asks the lab that runs in a directory. The certificate must be the one the lab wrote down. Errors: NOT_FOUND, UNAVAILABLE. */
async function call<T>(directory: string, verb: string, body: object): Promise<T> {
  const read = async (name: string): Promise<string> => {
    try {
      return await readFile(join(directory, name), 'utf8')
    } catch (error) {
      throw new AgentError('NOT_FOUND', `No lab was started in ${directory}.`, {
        subject: directory,
        next: 'Start it with "vcb lab up", or name its directory with --dir.',
        cause: fromErrno(error) ?? error,
      })
    }
  }
  const where: { url: string; certificate: string } = JSON.parse(await read('running.json'))
  const token = (await read('control-token')).trim()
  const { request } = await import('node:https')
  const text = await new Promise<{ status: number; text: string }>((resolve, reject) => {
    const sent = request(
      `${where.url}/lab/${verb}`,
      {
        method: 'POST',
        // The token goes out only to the certificate the lab wrote down, self-signed as it is.
        ca: where.certificate,
        checkServerIdentity: () => undefined,
        agent: false,
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      },
      (response) => {
        let got = ''
        response
          .setEncoding('utf8')
          .on('data', (piece: string) => {
            got += piece
          })
          .on('end', () => resolve({ status: response.statusCode ?? 0, text: got }))
          .on('error', reject)
      },
    )
    sent.on('error', (error) => {
      reject(
        error instanceof AgentError
          ? error
          : new AgentError('UNAVAILABLE', `The lab in ${directory} does not answer.`, {
              subject: directory,
              next: 'Start it with "vcb lab up".',
              cause: error,
            }),
      )
    })
    sent.end(JSON.stringify(body))
  })
  if (text.status === 200) return JSON.parse(text.text)
  if (text.status !== 400)
    throw new AgentError('UNAVAILABLE', `The lab answered ${text.status}${text.text === '' ? '' : `: ${text.text.slice(0, 200)}`}.`)
  const { code, message, next } = JSON.parse(text.text)
  throw new AgentError(code, message, { next })
}

function whole(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d+$/.test(text)) throw new AgentError('USAGE', `${flag} wants a whole number, not "${text}".`)
  return Number(text)
}

function decimal(text: string | undefined, flag: string): number | undefined {
  if (text === undefined) return undefined
  if (!/^\d+(\.\d+)?$/.test(text)) throw new AgentError('USAGE', `${flag} wants a number, not "${text}".`)
  return Number(text)
}

function area(text: string): { offset: number; length: number } {
  const match = /^(\d+)\+(\d+)$/.exec(text)
  if (match === null) throw new AgentError('USAGE', `--areas wants OFFSET+LENGTH, not "${text}".`)
  return { offset: Number(match[1]), length: Number(match[2]) }
}

const digestText = (disks: readonly DiskDigest[]): string =>
  disks
    .map(
      (disk) => `${disk.sha256}  ${disk.label}  ${formatBytes(disk.capacityBytes)}${disk.kind === 'content' ? '  (content digest)' : ''}`,
    )
    .join('\n')

function stateText(state: LabState): string {
  const busy = state.vms.map((vm) => [
    vm.name,
    vm.moref,
    vm.powerState.replace('powered', '').toLowerCase(),
    vm.host,
    String(vm.disks.length),
    vm.snapshots.map((snapshot) => snapshot.name).join(', '),
    [
      vm.frozen ? 'frozen' : '',
      vm.consolidationNeeded ? 'needs consolidation' : '',
      ...vm.disabledMethods.map((entry) => `${entry.method} disabled`),
    ]
      .filter((text) => text !== '')
      .join(', '),
  ])
  return [
    renderTable(['VM', 'MOREF', 'POWER', 'HOST', 'DISKS', 'SNAPSHOTS', 'REMARKS'], busy),
    ...(state.vmCount > state.vms.length ? [`and ${state.vmCount - state.vms.length} VMs that were never touched`] : []),
    ...state.datastores.map(
      (store) => `datastore ${store.name} (${store.type}): ${formatBytes(store.usedBytes)} of ${formatBytes(store.capacityBytes)}`,
    ),
    ...state.tasks.map((task) => `task ${task.name} on ${printable(task.entity)}: ${task.state} ${task.progress} %`),
    ...state.leases.map((lease) => `${lease.kind} lease on ${printable(lease.vm)}: ${lease.state}`),
    ...state.nfc.sessions.map(
      (session) =>
        `NFC session on ${printable(session.vm)} (${session.host}, ${session.encrypted ? 'nbdssl' : 'nbd'}): ${session.path ?? 'no disk open'}`,
    ),
    ...state.faults.map((each) => `fault ${each.id}: ${JSON.stringify(each.rule)}, struck ${each.struck}`),
    `${state.sessions.length} sessions, ${state.locks.length} file locks`,
  ].join('\n')
}

function capabilityText(capabilities: readonly Capability[]): string {
  return renderTable(
    ['', 'AREA', 'WHAT', 'NOTE'],
    capabilities.map((each) => [each.simulated ? 'yes' : 'NO', each.area, each.name, each.note ?? '']),
  )
}
