declare const FAIRLEAD_VERSION: string | undefined;

/** Version of this build; set by hack/build.ts. */
export const version: string = typeof FAIRLEAD_VERSION === 'string' ? FAIRLEAD_VERSION : 'unreleased';
