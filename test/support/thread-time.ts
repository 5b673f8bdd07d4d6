/** A clock that counts only while this thread works, from now on, in milliseconds of processor time: what else the machine does is not in it. */
export function threadTime(): () => number {
  const before = process.threadCpuUsage();
  return () => {
    const { user, system } = process.threadCpuUsage(before);
    return (user + system) / 1_000;
  };
}
