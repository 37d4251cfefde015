/** Thrown by whatever reads a run that is not what its set says. Never reaches a user: the run's index files are read again instead. */
export class DamagedRun extends Error {
  readonly run: string

  constructor(run: string, problem: string, options?: ErrorOptions) {
    super(`The run ${run} of the index cache ${problem}.`, options)
    this.run = run
  }
}
