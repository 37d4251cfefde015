import type { Role } from './agent-control.ts'

/** From least to most. Each may all that those before it may. */
export const ROLES = ['viewer', 'operator', 'admin'] as const satisfies readonly Role[]

export const allows = (has: Role, needed: Role): boolean => ROLES.indexOf(has) >= ROLES.indexOf(needed)
