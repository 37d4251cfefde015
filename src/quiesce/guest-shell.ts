import type { Abortable } from '../core/index.ts'

/** A script to run, and the files in the guest that take its two outputs. `out` is also the proof that it was started: the shell makes it first. */
export type ScriptCommand = { readonly path: string; readonly argument: string; readonly out: string; readonly err: string }

/** `exitCode` is undefined when it was ended because its time was over, or when nobody knows any more. */
export type ScriptEnd = { readonly exitCode: number | undefined; readonly timedOut: boolean }

/** One way into one guest. Holds a connection at most; every path is absolute, in the guest's own form. */
export interface GuestShell {
  /** Where the files of a run lie when nothing else is configured. */
  readonly directory: string
  /**
   * Starts the script and waits until it ends; after `limitMs`, or when aborted, it is ended. `onStart` is called once it may have been started: an error
   * without that is a refusal, and nothing ran. GUEST (it could not be started), AUTH, UNAVAILABLE.
   */
  run(
    command: ScriptCommand,
    options: Abortable & { readonly limitMs: number; readonly onStart?: (() => void) | undefined },
  ): Promise<ScriptEnd>
  /** Waits the same way for one that an earlier connection started; at once when it has ended. */
  wait(command: ScriptCommand, options: Abortable & { readonly limitMs: number }): Promise<ScriptEnd>
  exists(path: string, options?: Abortable): Promise<boolean>
  /** The beginning of a file and its size, bytes; undefined when it is not there. */
  read(path: string, most: number, options?: Abortable): Promise<{ readonly bytes: Uint8Array; readonly size: number } | undefined>
  /** Not there = success. */
  remove(path: string, options?: Abortable): Promise<void>
}
