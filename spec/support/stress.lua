-- How large a test of spec/stress is: a slice that takes seconds, or with STRESS=whole in the environment
-- (scripts/soak stress) all of it.

local stress = {}

stress.is_whole = os.getenv "STRESS" == "whole"

-- The size of a test.
function stress.size(slice, whole)
  return stress.is_whole and whole or slice
end

-- Show a figure of a test of whole size.
function stress.note(text, ...)
  if stress.is_whole then
    print("\n  " .. text:format(...))
  end
end

return stress
