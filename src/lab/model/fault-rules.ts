import type { Scenario } from '../scenario.ts'
import type { LabKind } from '../wire/index.ts'
import type { LeaseQuirk } from './lease-quirks.ts'
import type { HotaddQuirk } from '../proxy/index.ts'
import type { NfcQuirk } from './nfc-quirks.ts'
import type { SshQuirk } from './ssh-quirks.ts'

/** Conditions and effects of one fault rule; a rule without conditions always matches. */
export type FaultRule = {
  /**
   * What it strikes: a SOAP method (`CreateSnapshot_Task`), `folder:GET`, `folder:PUT`, `nfc:GET`, `nfc:POST`, a step of the NFC disk protocol
   * (`nfc:ticket`, `nfc:greeting`, `nfc:tls`, `nfc:line`, `nfc:proxy`, `nfc:tls2`, `nfc:frame`, `nfc:record`, `nfc:session`,
   * `nfc:open`, `nfc:read`, `nfc:write`, `nfc:query`, `nfc:key`, `nfc:close`, `nfc:gone`), one of a host's shell (`ssh:connect`, `ssh:login`,
   * `ssh:session`, `ssh:exec`), `hotadd:attach`, or `*`.
   * Effects on the model (`changedAreas`, `consolidationNeeded`, `quiesceTimeout`, `datastoreFull`, `lockHeld`) need none.
   */
  readonly on?: string | undefined
  /** moref, name of the object, or a `*` glob on its name or path. */
  readonly object?: string | undefined
  /** Strikes at the n-th matching call only (1 = the first). */
  readonly nth?: number | undefined
  /** Strikes at most this many times. */
  readonly times?: number | undefined
  /** 0–1, drawn from the lab's seed. */
  readonly probability?: number | undefined
  /** `vcenter` or `esxi`; both when absent. */
  readonly endpoint?: 'vcenter' | 'esxi' | undefined
  /** Milliseconds before the call is served. */
  readonly delayMs?: number | undefined
  /** Cuts the connection before an answer (`before`) or after the work was done, answer lost (`after`). */
  readonly cut?: 'before' | 'after' | undefined
  /** Ends the caller's session before the call. */
  readonly expireSession?: boolean | undefined
  /** Answers with this fault, by its vim25 name (`InvalidState`, `FileLocked`). */
  readonly fault?: string | undefined
  /** The task is made, runs, and ends with this fault. Where the fault comes before any effect. */
  readonly taskError?: string | undefined
  /** Milliseconds the task takes. */
  readonly taskMs?: number | undefined
  /** Milliseconds the task waits in the queue before it runs; the VM is busy with it all the while. */
  readonly queueMs?: number | undefined
  /** The server forgets the task as soon as it runs, as a vCenter restarted meanwhile; the host goes on working at it. */
  readonly forgetTask?: boolean | undefined
  /** Text of the fault. */
  readonly message?: string | undefined
  /** HTTP status to answer with (folder and nfc). */
  readonly status?: number | undefined
  /** Ends an HTTP body after this many bytes: `cutAfterBytes` with a reset connection, `shortAfterBytes` with a clean but early end. */
  readonly cutAfterBytes?: number | undefined
  readonly shortAfterBytes?: number | undefined
  /** Answers 200 with the whole file to a Range request. */
  readonly refuseRange?: boolean | undefined
  /**
   * How change tracking lies: `lie-end` reaches over the end of the disk, `zero-length` covers nothing, `miss` leaves changed areas out,
   * `one-area` names the whole disk, `small-pages` gives few areas a call, `noTrack` / `cannotGetChanges` are the host's own faults.
   */
  readonly changedAreas?: 'lie-end' | 'zero-length' | 'miss' | 'one-area' | 'small-pages' | 'noTrack' | 'cannotGetChanges' | undefined
  /** Removal reports success but leaves the redo logs; `ConsolidateVMDisks_Task` is needed. */
  readonly consolidationNeeded?: boolean | undefined
  /** The guest cannot hold still: FilesystemQuiesceFault at the thaw. `application`: ApplicationQuiesceFault at the freeze. `hang`: it is frozen and not thawed until the time-out. */
  readonly quiesce?: 'timeout' | 'application' | 'silent' | 'hang' | undefined
  /** CancelTask is refused for this VM's snapshot tasks, as busy hosts do. */
  readonly notCancelable?: boolean | undefined
  /** No space on this datastore. */
  readonly datastoreFull?: string | undefined
  /** Another host or proxy holds this VM's disks: consolidation and commit fail with FileLocked, reads with 500. */
  readonly lockHeld?: boolean | undefined
  /** What the NFC server does wrong at this step. */
  readonly nfc?: NfcQuirk | undefined
  /** What an export lease does wrong; `value` = the grain it happens at, counted from 0. */
  readonly lease?: LeaseQuirk | undefined
  /** What becomes of a disk of another VM that is attached (`on: 'hotadd:attach'`). */
  readonly hotadd?: HotaddQuirk | undefined
  /**
   * What a host's SSH server does wrong: `otherHostKey` at `ssh:connect`, `refuse` at `ssh:login`, at `ssh:session` `sessions` (a connection has
   * `value` of them at most), at `ssh:exec` `missing` (no such command), `status` (ends at once with `value`; after `shortAfterBytes` of its output
   * where that is given) or `busy` (python3 finds the file locked after `value` reads of it) or
   * `cutInput` (the connection is cut after `value` bytes of input).
   */
  readonly ssh?: SshQuirk | undefined
  /** The number an `nfc`, `ssh` or `hotadd` rule needs: a version, a count of reads, milliseconds, an error code, an exit status. */
  readonly value?: number | undefined
}

/** A rule as it stands in the running lab. */
export type ActiveFault = { readonly id: string; readonly rule: FaultRule; readonly seen: number; readonly struck: number }

export type Matter = {
  /** SOAP method, or `folder:GET` and the like; undefined for effects asked about by the model. */
  readonly on?: string | undefined
  /** Every name of the object: moref, name, inventory path, datastore path. */
  readonly names: readonly string[]
  readonly endpoint?: LabKind | undefined
}

type Entry = { readonly id: string; readonly rule: FaultRule; seen: number; struck: number }

/** The fault rules in force. A rule counts every matter it matches, and strikes those its n, times and probability select. */
export class FaultRules {
  readonly #entries: Entry[] = []
  readonly #random: () => number
  #next = 1

  constructor(initial: Scenario['faults'], random: () => number) {
    this.#random = random
    for (const rule of initial) this.add(rule)
  }

  add(rule: FaultRule): string {
    const id = `fault-${this.#next++}`
    this.#entries.push({ id, rule, seen: 0, struck: 0 })
    return id
  }

  list(): ActiveFault[] {
    return this.#entries.map(({ id, rule, seen, struck }) => ({ id, rule, seen, struck }))
  }

  /** Removes one rule, or all. True when there was one. */
  clear(id?: string): boolean {
    const before = this.#entries.length
    if (id === undefined) this.#entries.length = 0
    else {
      const at = this.#entries.findIndex((entry) => entry.id === id)
      if (at >= 0) this.#entries.splice(at, 1)
    }
    return this.#entries.length < before
  }

  /**
   * Rules with one of the given effects that strike this matter now, in the order they were set. Asking counts: ask once per matter and
   * set of effects.
   */
  strike(matter: Matter, ...effects: readonly (keyof FaultRule)[]): FaultRule[] {
    return this.#entries
      .filter((entry) => effects.some((effect) => entry.rule[effect] !== undefined) && this.#strikes(entry, matter))
      .map((entry) => entry.rule)
  }

  #strikes(entry: Entry, matter: Matter): boolean {
    const { rule } = entry
    if (rule.on !== undefined && matter.on !== undefined && !globMatches(rule.on, matter.on)) return false
    if (rule.endpoint !== undefined && matter.endpoint !== undefined && rule.endpoint !== matter.endpoint) return false
    if (rule.object !== undefined && !matter.names.some((name) => globMatches(rule.object ?? '*', name))) return false
    entry.seen++
    if (rule.nth !== undefined && entry.seen !== rule.nth) return false
    if (rule.times !== undefined && entry.struck >= rule.times) return false
    if (rule.probability !== undefined && this.#random() >= rule.probability) return false
    entry.struck++
    return true
  }
}

/** `*` stands for any text; everything else for itself. */
export function globMatches(pattern: string, text: string): boolean {
  const parts = pattern.split('*')
  if (parts.length === 1) return pattern === text
  const [first = '', ...rest] = parts
  if (!text.startsWith(first)) return false
  let at = first.length
  const last = rest.pop() ?? ''
  for (const part of rest) {
    const found = text.indexOf(part, at)
    if (found < 0) return false
    at = found + part.length
  }
  return text.length - at >= last.length && text.endsWith(last)
}
