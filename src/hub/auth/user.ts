/** Who calls, as Kubernetes names it. Source: the front proxy's headers or a TokenReview. */
export type UserInfo = {
  name: string;
  uid: string;
  groups: string[];
  extra: Record<string, string[]>;
};
