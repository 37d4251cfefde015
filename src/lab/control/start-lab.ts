import type { Clock, Log } from '../../core/index.ts'
import type { Lab } from './lab.ts'

export type LabOptions = {
  /** Where state, datastores, certificate and passwords live; made when absent, resumed when it holds a lab. */
  readonly directory: string
  /** Path of a YAML or JSON file, a scenario object, or `default`. Only read when the directory holds no lab yet. */
  readonly scenario?: string | object | undefined
  /** Default both. */
  readonly kind?: 'vcenter' | 'esxi' | undefined
  /** Port of the vCenter endpoint (ESXi takes the next); 0 = any free one. A resumed lab keeps its ports unless told otherwise. */
  readonly port?: number | undefined
  readonly clock?: Clock | undefined
  readonly log?: Log | undefined
}

/** Starts a lab or resumes the one in the directory. Errors: CONFIG (scenario), CONFLICT (another process runs this directory). */
export declare function startLab(options: LabOptions): Promise<Lab>
