import { afterAll, beforeAll, expect, test } from 'vitest'
import { FROM_SOURCES, runChild } from '../crash/commands.ts'
import { crashScenario } from '../crash/scenario.ts'
import { type LabSession, openLabSession } from './lab-session.ts'

/* vSphere is slow, and the agent died between asking it for a VM and the VM: recovery comes before the VM does. */
let session: LabSession

beforeAll(async () => {
  session = await openLabSession({ scenario: { ...crashScenario, taskMs: 1200, leaseTimeoutSeconds: 300 } })
  await session.json(['backup', 'omega', '--init'])
})
afterAll(async () => {
  await session[Symbol.asyncDispose]()
})

const vmNames = async (): Promise<string[]> => (await session.lab.control.state()).vms.map(({ name }) => name)

test.each([
  ['lease', 'after:call ImportVApp'],
  ['folder', 'after:call RegisterVM_Task'],
])('a VM that vSphere was still making when the restore was killed is waited for and removed (%s)', async (via, kill) => {
  const before = await vmNames()
  const argv = ['restore', 'omega@latest', '--to-vcenter', '--name', 'late', '--via', via]
  expect(await runChild(FROM_SOURCES, argv, session.environment, { kill })).toMatchObject({ killed: true })
  expect(await vmNames()).toEqual(before)
  const report = await session.json(['recover'])
  const claims = report.recovered.flatMap((job: { claims: { kind: string; result: string }[] }) => job.claims)
  expect(claims).toContainEqual(expect.objectContaining({ kind: 'registeredVm', result: 'released' }))
  expect(await vmNames()).toEqual(before)
  await session.expectClean()
})
