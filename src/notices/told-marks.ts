/**
 * What people were told last, by name: until when a report told, which VMs are known to be late, which process tells. In the database that keeps the history, so that
 * several agents that share it know of each other. Each call is atomic. Errors: those of the database.
 */
export interface ToldMarks {
  get(name: string): Promise<string | undefined>
  /** Sets it if it still is `before` (undefined: there is none). False when somebody else was faster; nothing is changed then. */
  change(name: string, before: string | undefined, after: string): Promise<boolean>
}
