import { join } from 'node:path'
import type { AgentConfig } from './config/config.ts'

/** Where notices wait: in the state directory of this proxy, whatever database several proxies share. */
export const outboxDirectory = ({ stateDirectory }: Pick<AgentConfig, 'stateDirectory'>): string => join(stateDirectory, 'notices')
